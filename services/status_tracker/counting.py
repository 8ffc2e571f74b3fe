"""Who is in a listing and how many, who is missing, what to ask about them, and when an absence is believed. Pure.

The name and the array index are an agent's key: batch job ids are used again after a crash of slurmctld.
An agent may be missing because it ended (sacct knows), because the listing lacks it, or because Slurm lost it. None of
the three can be told from one listing, so nothing is lost or replaced on one.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta

import msgspec

from libs.events.messages import JobAgent, Submission
from libs.slurm.rows import BatchJob
from libs.slurm.states import RANK, Phase

PREFIX = "nacre"
ACTIVE = ("queued", "running", "unaccounted")
# States of a submission whose agents may have a batch job; those that Slurm surely took; those that nobody knows of.
OPEN = ("intended", "unclear", "accepted", "adopted")
TAKEN = ("accepted", "adopted")
IN_DOUBT = ("intended", "unclear")
# sacct's window opens this long before the oldest instant asked about: clocks differ, and zones are configured.
WINDOW_MARGIN = timedelta(hours=1)
# Beyond so many, everything since then is asked for at once: a request stays small, and they stay few.
ASKED_BY_NAME_AT_MOST = 600
KEPT_FOR = timedelta(days=8)


class Sighting(msgspec.Struct, frozen=True, kw_only=True):
    """One job agent as a row showed it."""

    agent: str
    submission: str
    index: int
    ce: str
    job: BatchJob


class View(msgspec.Struct, frozen=True, kw_only=True):
    """What a listing showed: our agents by key, strangers and live batch jobs by QOS (counts).

    `doubles` are agents that more than one live batch job claims to be.
    """

    ours: dict[str, Sighting]
    strangers: int
    by_qos: dict[str, int]
    doubles: tuple[str, ...]


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """Job agents of one CE by state."""

    queued: int
    running: int
    unaccounted: int


def ce_of(name: str, ces: Collection[str]) -> str | None:
    """The CE of a submission's name `nacre-<ce>-<stamp>-<random>`; None when it is not a name of ours."""
    prefix, _, rest = name.partition("-")
    ce = "-".join(rest.split("-")[:-2])
    return ce if prefix == PREFIX and ce in ces else None


def sightings(job: BatchJob, ces: Collection[str]) -> list[Sighting]:
    """The agents that one row stands for: one per array task; none when it is a stranger or its list was cut."""
    ce = ce_of(job.name, ces)
    if ce is None or job.indices is None:
        return []
    return [
        Sighting(agent=f"{job.name}.{index}", submission=job.name, index=index, ce=ce, job=job)
        for index in job.indices or (0,)
    ]


def view(jobs: Iterable[BatchJob], ces: Collection[str]) -> View:
    """Rows of one complete listing, sorted out. Ended rows are kept as sightings, but count nowhere."""
    ours: dict[str, Sighting] = {}
    doubles: list[str] = []
    by_qos: dict[str, int] = {}
    strangers = 0
    for job in jobs:
        live = job.state.phase is not Phase.ENDED
        if live and job.indices is not None:
            by_qos[job.qos] = by_qos.get(job.qos, 0) + job.jobs
        found = sightings(job, ces)
        if not found and live and job.indices is not None:
            strangers += job.jobs
        for sighting in found:
            other = ours.get(sighting.agent)
            if other is not None and live and other.job.state.phase is not Phase.ENDED:
                doubles.append(sighting.agent)
            if other is None or _weight(sighting) > _weight(other):
                ours[sighting.agent] = sighting
    return View(ours=ours, strangers=strangers, by_qos=by_qos, doubles=tuple(doubles))


def _weight(sighting: Sighting) -> tuple[bool, float, int, int]:
    """Of several batch jobs with one name the live one is believed, then the youngest, then the furthest."""
    job = sighting.job
    submitted_s = job.submitted_at.timestamp() if job.submitted_at else 0.0
    return job.state.phase is not Phase.ENDED, submitted_s, RANK[job.state.phase], job.array_job_id


def count(records: Iterable[JobAgent], ce: str) -> Counts:
    """The agents of one CE by state."""
    by_state = {"queued": 0, "running": 0, "unaccounted": 0}
    for record in records:
        if record.ce == ce and record.state in by_state:
            by_state[record.state] += 1
    return Counts(**by_state)


class Questions(msgspec.Struct, frozen=True, kw_only=True):
    """What to ask sacct: by job id where one is known, else by name; all since then when both are empty."""

    job_ids: tuple[str, ...]
    names: tuple[str, ...]
    since: datetime


def absent(known: Iterable[JobAgent], seen: Collection[str]) -> list[JobAgent]:
    """Active agents that were not seen."""
    return [record for record in known if record.state in ACTIVE and record.agent not in seen]


def unresolved(
    submissions: Iterable[Submission], known: Collection[str], seen: Collection[str], listed_at: datetime
) -> list[tuple[Submission, int]]:
    """Agents (submission, index) that may have a batch job, but have no record and were not seen."""
    return [
        (submission, index)
        for submission in submissions
        if submission.state in OPEN and submission.intended_at < listed_at
        for index in range(submission.agents)
        if (agent := f"{submission.name}.{index}") not in known and agent not in seen
    ]


def questions(absent: Iterable[JobAgent], unresolved: Iterable[tuple[Submission, int]]) -> Questions | None:
    """What to ask sacct about them; None when there is nothing to ask."""
    job_ids: set[str] = set()
    names: set[str] = set()
    instants: list[datetime] = []
    for record in absent:
        job_id = record.job_id.partition("_")[0]
        (job_ids if job_id else names).add(job_id or record.submission)
        instants.append(record.submit_at or record.first_listed_at)
    for submission, _ in unresolved:
        (job_ids if submission.job_id else names).add(submission.job_id or submission.name)
        instants.append(submission.intended_at)
    if not instants:
        return None
    since = min(instants) - WINDOW_MARGIN
    if len(job_ids) + len(names) > ASKED_BY_NAME_AT_MOST:
        return Questions(job_ids=(), names=(), since=since)
    return Questions(job_ids=tuple(sorted(job_ids)), names=tuple(sorted(names)), since=since)


def too_many(absent: Iterable[JobAgent], active: int, share: float) -> bool:
    """True when more than the share of the active agents went missing at once: then the listing is not complete.

    Those that were missing before were judged before.
    """
    newly = sum(record.state != "unaccounted" for record in absent)
    return newly > share * active


def overdue(
    unresolved: Iterable[tuple[Submission, int]], listed_at: datetime, lag_s: float
) -> list[tuple[Submission, int]]:
    """Of the unresolved those that Slurm took so long ago that a listing would show them."""
    lag = timedelta(seconds=lag_s)
    return [
        (submission, index)
        for submission, index in unresolved
        if submission.state in TAKEN and listed_at > submission.changed_at + lag
    ]


def undecidable(
    unresolved: Iterable[tuple[Submission, int]], listed_at: datetime, lag_s: float
) -> dict[str, list[str]]:
    """CE -> names of submissions in doubt that would be given up on this listing, so that sacct must have answered."""
    lag = timedelta(seconds=lag_s)
    found: dict[str, list[str]] = {}
    for submission, index in unresolved:
        if submission.state in IN_DOUBT and listed_at > submission.void_after + lag and index == 0:
            found.setdefault(submission.ce, []).append(submission.name)
    return found


def settled(absent: Iterable[JobAgent], listed_at: datetime, settle_time_s: float) -> list[JobAgent]:
    """Of the absent those that were missing longer than the settle time: forgotten, unless their own name says else."""
    limit = timedelta(seconds=settle_time_s)
    return [
        record
        for record in absent
        if record.state == "unaccounted"
        and record.missing_since is not None
        and listed_at - record.missing_since > limit
    ]


def outdated(known: Mapping[str, JobAgent], submissions: Mapping[str, Submission], now: datetime) -> list[str]:
    """Agents whose record may leave the bucket: over for long, and their submission left before them."""
    return [
        agent
        for agent, record in known.items()
        if record.state not in ACTIVE
        and record.submission not in submissions
        and now - (record.end_at or record.missing_since or record.first_listed_at) > KEPT_FOR
    ]

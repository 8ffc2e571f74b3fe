"""Who is in a listing, and how many. Pure.

The name and the array index are an agent's key, and its node's rank where a batch job holds several: batch job ids are
used again after a crash of slurmctld.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta

import msgspec

from libs.events.messages import JobAgent, Submission
from libs.runtime.errors import Malformed
from libs.slurm.hostlists import expanded
from libs.slurm.rows import BatchJob
from libs.slurm.states import RANK, Phase

PREFIX = "nacre"
ACTIVE = ("queued", "running", "unaccounted")
# More agents than any batch job of ours has nodes; the number comes out of a comment.
AGENTS_PER_JOB_AT_MOST = 5000
_PER_JOB = re.compile(r"nacre:(?:[^ ]*,)?per_job=([0-9]{1,4})(?:,|$)", re.ASCII)
_STAMP = re.compile(r"-([0-9]{8}t[0-9]{6})-[^-]*$", re.ASCII)


class Sighting(msgspec.Struct, frozen=True, kw_only=True):
    """One job agent as a row showed it. `node` is its own, or its batch job's nodes when it has them all.

    `shared`: the batch job holds other agents on other nodes.
    """

    agent: str
    submission: str
    index: int
    ce: str
    job: BatchJob
    rank: int = 0
    node: str = ""
    shared: bool = False


class View(msgspec.Struct, frozen=True, kw_only=True):
    """What a listing showed: our agents by key, strangers and live batch jobs by QOS (counts).

    `doubles` are agents that more than one live batch job claims to be.
    """

    ours: dict[str, Sighting]
    strangers: int
    by_qos: dict[str, int]
    doubles: tuple[str, ...]


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """Job agents of one CE by state, and those of the running ones whose activity is known."""

    queued: int
    running: int
    unaccounted: int
    silent: int
    idle: int
    working: int


def ce_of(name: str, ces: Collection[str]) -> str | None:
    """The CE of a submission's name `nacre-<ce>-<stamp>-<random>`; None when it is not a name of ours."""
    prefix, _, rest = name.partition("-")
    ce = "-".join(rest.split("-")[:-2])
    return ce if prefix == PREFIX and ce in ces else None


def per_job_of(comment: str) -> int:
    """How many agents a batch job's own comment says it holds; one when it does not say."""
    match = _PER_JOB.search(comment)
    return min(max(int(match[1]), 1), AGENTS_PER_JOB_AT_MOST) if match else 1


def sightings(
    job: BatchJob, ces: Collection[str], submissions: Mapping[str, Submission] | None = None
) -> list[Sighting]:
    """The agents that one row stands for: one per array task, or per node of each; none when it is a stranger or cut.

    How many a task holds says the submission's record, else the batch job's comment.
    """
    ce = ce_of(job.name, ces)
    if ce is None or job.indices is None:
        return []
    submission = (submissions or {}).get(job.name)
    if submission and submission.batch_jobs > 1 and not job.indices:
        # An array's bare id stands for some of its tasks, and does not say which.
        return []
    per_job = submission.agents_per_job if submission else per_job_of(job.comment)
    if per_job == 1:
        return [
            Sighting(agent=f"{job.name}.{index}", submission=job.name, index=index, ce=ce, job=job, node=job.node_list)
            for index in job.indices or (0,)
        ]
    nodes = _nodes(job)
    return [
        Sighting(
            agent=f"{job.name}.{index}.{rank}",
            submission=job.name,
            index=index,
            ce=ce,
            job=job,
            rank=rank,
            node=nodes[rank] if rank < len(nodes) else "",
            shared=True,
        )
        for index in job.indices or (0,)
        for rank in range(per_job)
    ]


def _nodes(job: BatchJob) -> tuple[str, ...]:
    """Rank r runs on the r-th node; a list that cannot be read only makes the records poorer."""
    try:
        return expanded(job.node_list)
    except Malformed:
        return ()


def view(jobs: Iterable[BatchJob], ces: Collection[str], submissions: Mapping[str, Submission] | None = None) -> View:
    """Rows of one complete listing, sorted out. Ended rows are kept as sightings, but count nowhere."""
    ours: dict[str, Sighting] = {}
    doubles: list[str] = []
    by_qos: dict[str, int] = {}
    strangers = 0
    for job in jobs:
        live = job.state.phase is not Phase.ENDED
        if live and job.indices is not None:
            by_qos[job.qos] = by_qos.get(job.qos, 0) + job.jobs
        found = sightings(job, ces, submissions)
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
    """The agents of one CE by state and activity."""
    mine = [record for record in records if record.ce == ce and record.state in ACTIVE]
    states = Counter(record.state for record in mine)
    activities = Counter(record.activity for record in mine if record.state == "running")
    return Counts(
        queued=states["queued"],
        running=states["running"],
        unaccounted=states["unaccounted"],
        silent=activities["silent"],
        idle=activities["idle"],
        working=activities["working"],
    )


def void_after_of(name: str, submission: Submission | None, settle_time_s: float) -> datetime | None:
    """A submission's void_after: from its record, else from the instant in its name; None when that is none."""
    if submission is not None:
        return submission.void_after
    if (match := _STAMP.search(name)) is None:
        return None
    try:
        made_at = datetime.strptime(match[1], "%Y%m%dt%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None
    return made_at + timedelta(seconds=settle_time_s)

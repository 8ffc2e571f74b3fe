"""Who is missing from a listing, what to ask about them, and when an absence is believed. Pure.

An agent may be missing because it ended (sacct knows), because the listing lacks it, or because Slurm lost it. None of
the three can be told from one listing, so nothing is lost or replaced on one.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta

import msgspec

from libs.events.messages import JobAgent, Submission
from libs.slurm.rows import BatchJob
from libs.slurm.states import Phase, classify
from services.status_tracker.rules.counting import ACTIVE, Sighting

# States of a submission whose agents may have a batch job; those that Slurm surely took; those that nobody knows of.
OPEN = ("intended", "unclear", "accepted", "adopted")
TAKEN = ("accepted", "adopted")
IN_DOUBT = ("intended", "unclear")
# sacct's window opens this long before the oldest instant asked about: clocks differ, and zones are configured.
WINDOW_MARGIN = timedelta(hours=1)
# Ids and names that are asked about in one cycle, in a handful of requests; the others wait for the next cycle.
ASKED_AT_MOST = 600
# With so many absent tasks of one array its id is asked for, which answers with all its tasks.
WHOLE_ARRAY_FROM = 50


class Questions(msgspec.Struct, frozen=True, kw_only=True):
    """What to ask sacct: by job id where one is known, else by name.

    `deferred`: agents and submissions that it has no room for in this cycle; nothing follows from their absence.
    """

    job_ids: tuple[str, ...]
    names: tuple[str, ...]
    since: datetime
    deferred: frozenset[str] = frozenset()


def absent(known: Iterable[JobAgent], seen: Collection[str]) -> list[JobAgent]:
    """Active agents that were not seen."""
    return [record for record in known if record.state in ACTIVE and record.agent not in seen]


def unresolved(
    submissions: Iterable[Submission], known: Collection[str], seen: Collection[str], listed_at: datetime
) -> list[tuple[Submission, str]]:
    """Agents (submission, key) that may have a batch job, but have no record and were not seen."""
    return [
        (submission, key)
        for submission in submissions
        if submission.state in OPEN and submission.intended_at < listed_at
        for key in submission.agent_keys()
        if key not in known and key not in seen
    ]


def questions(absent: Iterable[JobAgent], unresolved: Iterable[tuple[Submission, str]]) -> Questions | None:
    """What to ask sacct about them; None when there is nothing to ask.

    First about those that were not missed before, and the oldest first. The window opens before the oldest began.
    """
    of_array = Counter(_array(record) for record in absent)
    wanted: dict[tuple[str, bool], list[tuple[str, datetime, bool]]] = {}
    for record in absent:
        asked = _question(record, of_array)
        about = (record.agent, record.submit_at or record.first_listed_at, record.state == "unaccounted")
        wanted.setdefault(asked, []).append(about)
    for submission, _ in unresolved:
        asked = (submission.job_id, True) if submission.job_id else (submission.name, False)
        wanted.setdefault(asked, []).append((submission.name, submission.intended_at, False))
    if not wanted:
        return None
    ranked = sorted(wanted, key=lambda one: min((missed, instant) for _, instant, missed in wanted[one]))
    asked_now, later = ranked[:ASKED_AT_MOST], ranked[ASKED_AT_MOST:]
    return Questions(
        job_ids=tuple(sorted(word for word, is_id in asked_now if is_id)),
        names=tuple(sorted(word for word, is_id in asked_now if not is_id)),
        since=min(instant for one in asked_now for _, instant, _ in wanted[one]) - WINDOW_MARGIN,
        deferred=frozenset(key for one in later for key, _, _ in wanted[one]),
    )


def _array(record: JobAgent) -> str:
    return record.job_id.partition("_")[0]


def _question(record: JobAgent, of_array: Mapping[str, int]) -> tuple[str, bool]:
    """The id (True) or name (False) to ask about an agent by.

    A task that waited when it went missing has no row of its own if it was cancelled: only its array's rows tell.
    """
    array = _array(record)
    if not array:
        return record.submission, False
    waited = record.state == "unaccounted" and not ran(record)
    return (array if waited or of_array[array] >= WHOLE_ARRAY_FROM else record.job_id), True


def ran(record: JobAgent) -> bool:
    """Whether the agent's run is known to have started."""
    return record.start_at is not None or classify(record.slurm_state).phase is Phase.RUNNING


def cancelled_waiting(
    missing: Iterable[JobAgent], rows: Iterable[BatchJob], *, listed_at: datetime, lag_s: float
) -> dict[str, Sighting]:
    """Of the missing those that were cancelled before they started, as sightings of that end.

    Slurm keeps no record of a task that is cancelled out of a pending block (seen on a real 22.05): its array is known
    to squeue or sacct (`rows` of both), and no live row has the task. That must be so for longer than the listing lag.
    A cut list may hide the task, so it proves nothing.
    """
    arrays: dict[tuple[str, int], list[BatchJob]] = {}
    for row in rows:
        arrays.setdefault((row.name, row.array_job_id), []).append(row)
    found: dict[str, Sighting] = {}
    for record in missing:
        array = _array(record)
        since = record.missing_since
        if since is None or listed_at - since <= timedelta(seconds=lag_s) or ran(record) or not array.isdecimal():
            continue
        of_array = arrays.get((record.submission, int(array)), [])
        same_life = [row for row in of_array if record.submit_at is None or row.submitted_at == record.submit_at]
        live = [row for row in same_life if row.state.phase is not Phase.ENDED]
        if same_life and not any(not row.indices or record.index in row.indices for row in live):
            job = msgspec.structs.replace(
                same_life[0],
                indices=(record.index,) if "_" in record.job_id else (),
                state=classify("CANCELLED"),
                reason="",
                node_list="",
                started_at=None,
                ended_at=since,
                exit_code=None,
                signal=None,
                elapsed_s=0,
            )
            found[record.agent] = Sighting(
                agent=record.agent, submission=record.submission, index=record.index, ce=record.ce, job=job,
                rank=record.rank,
            )  # fmt: skip
    return found


def too_many(absent: Iterable[JobAgent], active: int, share: float) -> bool:
    """True when more than the share of the active agents went missing at once: then the listing is not complete.

    Those that were missing before were judged before.
    """
    newly = sum(record.state != "unaccounted" for record in absent)
    return newly > share * active


def overdue(
    unresolved: Iterable[tuple[Submission, str]], listed_at: datetime, lag_s: float
) -> list[tuple[Submission, str]]:
    """Of the unresolved those that Slurm took so long ago that a listing would show them."""
    lag = timedelta(seconds=lag_s)
    return [
        (submission, key)
        for submission, key in unresolved
        if submission.state in TAKEN and listed_at > submission.changed_at + lag
    ]


def undecidable(
    unresolved: Iterable[tuple[Submission, str]], listed_at: datetime, lag_s: float
) -> dict[str, list[str]]:
    """CE -> names of submissions in doubt that would be given up on this listing, so that sacct must have answered."""
    lag = timedelta(seconds=lag_s)
    found: dict[str, dict[str, None]] = {}
    for submission, _ in unresolved:
        if submission.state in IN_DOUBT and listed_at > submission.void_after + lag:
            found.setdefault(submission.ce, {})[submission.name] = None
    return {ce: list(names) for ce, names in found.items()}


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

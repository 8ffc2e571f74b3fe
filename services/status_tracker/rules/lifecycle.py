"""What an observation makes of a job agent's record. Pure.

One run of a batch job only goes forward: queued, running, ended. A row that is further back was true once and comes
late. Ended is final, but for Slurm's own requeue: squeue then shows a later submit instant (seen on a real Slurm
22.05), which is a new run with a new number. An agent that is missing is unaccounted, then forgotten; a row that
shows it again puts it back to where it was. So the order in which observations arrive does not matter in the end.
What several agents of one batch job share they share; each has its own node and its own grid jobs.
"""

from datetime import datetime

import msgspec

from libs.events.messages import AgentState, JobAgent, Submission
from libs.slurm.states import RANK, UNKNOWN, Phase, classify
from services.status_tracker.rules.counting import Sighting
from services.status_tracker.rules.verdict import judged

# Within one run: (how far the record's run is, what the row says) -> the state. A state of Slurm's that we do not know
# moves nothing; an agent first seen in one counts as queued, which asks for the fewest new ones.
SAME_RUN: dict[tuple[AgentState | None, Phase], AgentState] = {
    (None, Phase.UNKNOWN): "queued",
    (None, Phase.QUEUED): "queued",
    (None, Phase.RUNNING): "running",
    (None, Phase.ENDED): "ended",
    ("queued", Phase.UNKNOWN): "queued",
    ("queued", Phase.QUEUED): "queued",
    ("queued", Phase.RUNNING): "running",
    ("queued", Phase.ENDED): "ended",
    ("running", Phase.UNKNOWN): "running",
    ("running", Phase.QUEUED): "running",
    ("running", Phase.RUNNING): "running",
    ("running", Phase.ENDED): "ended",
    ("ended", Phase.UNKNOWN): "ended",
    ("ended", Phase.QUEUED): "ended",
    ("ended", Phase.RUNNING): "ended",
    ("ended", Phase.ENDED): "ended",
}

# Why Slurm lets a job wait when all is well: that one turns into another is no news.
ROUTINE_REASONS = frozenset({"", "None", "Priority", "Resources", "JobArrayTaskLimit", "BeginTime", "Nodes"})
SECONDS_PER_HOUR = 3600.0


def seen(
    record: JobAgent | None,
    sighting: Sighting,
    *,
    machine: str,
    listed_at: datetime,
    void_after: datetime | None = None,
    log_path: str = "",
) -> JobAgent:
    """The record after a row of a listing or of sacct that was asked for at `listed_at`."""
    job = sighting.job
    if record is None:
        record = JobAgent(
            agent=sighting.agent,
            submission=sighting.submission,
            index=sighting.index,
            rank=sighting.rank,
            ce=sighting.ce,
            machine=machine,
            state="queued",
            first_listed_at=listed_at,
        )
        return judged(_taken(record, sighting, SAME_RUN[None, job.state.phase], log_path), void_after)
    if record.submit_at is not None and job.submitted_at is not None:
        if job.submitted_at < record.submit_at:
            return record
        if job.submitted_at > record.submit_at and record.slurm_state:
            again = _next_run(record)
            return judged(_taken(again, sighting, SAME_RUN[None, job.state.phase], log_path), void_after)
    before = progress(record)
    state = SAME_RUN[before, job.state.phase]
    if job.state.phase is Phase.UNKNOWN or (before is not None and RANK[job.state.phase] < RANK[Phase(before)]):
        # The row is a state behind, or one that nobody knows: it proves that the agent is there, and nothing else.
        if before == "ended":
            return record
        return judged(msgspec.structs.replace(record, state=state, missing_since=None), void_after)
    return judged(_taken(record, sighting, state, log_path), void_after)


def progress(record: JobAgent) -> AgentState | None:
    """How far the record's run is, whether or not the agent is missing now; None when no row ever showed it."""
    if record.state in ("unaccounted", "forgotten"):
        if not record.slurm_state:
            return None
        return "running" if classify(record.slurm_state).phase is Phase.RUNNING else "queued"
    return record.state


def missing(record: JobAgent, listed_at: datetime) -> JobAgent:
    """The record after a complete listing without it, when sacct does not show it ended either."""
    if record.state in ("queued", "running"):
        return msgspec.structs.replace(record, state="unaccounted", missing_since=listed_at)
    return record


def never_seen(submission: Submission, key: str, *, listed_at: datetime) -> JobAgent:
    """The record of an agent (its key) that Slurm accepted and that no listing shows though it should by now."""
    index, _, rank = key.removeprefix(f"{submission.name}.").partition(".")
    return JobAgent(
        agent=key,
        submission=submission.name,
        index=int(index),
        rank=int(rank or 0),
        ce=submission.ce,
        machine=submission.machine,
        state="unaccounted",
        first_listed_at=listed_at,
        job_id=f"{submission.job_id}_{index}" if submission.job_id else "",
        qos=submission.qos,
        missing_since=listed_at,
    )


def forgotten(record: JobAgent) -> JobAgent:
    """The record of an unaccounted agent that is given up."""
    if record.state != "unaccounted":
        return record
    return judged(msgspec.structs.replace(record, state="forgotten"), None)


def news(before: JobAgent | None, after: JobAgent) -> bool:
    """Whether a changed record is worth a write: not for one routine reason to wait that gave way to another."""
    if before is None or before == after:
        return before is None
    if before.reason == after.reason or not (_routine(before.reason) and _routine(after.reason)):
        return True
    return msgspec.structs.replace(before, reason=after.reason) != after


def worth_telling(before: JobAgent | None, after: JobAgent) -> bool:
    """Whether a written record is worth an event: not for what only makes it fuller."""
    return before is None or any(getattr(before, name) != getattr(after, name) for name in _TOLD)


_TOLD = ("state", "run", "verdict", "activity", "nodes", "reason", "slurm_state")


def _routine(reason: str) -> bool:
    return reason in ROUTINE_REASONS


def _next_run(record: JobAgent) -> JobAgent:
    """A requeued agent's record with nothing left of the run before but what it did there."""
    return msgspec.structs.replace(
        record,
        run=record.run + 1,
        eligible_at=None,
        start_at=None,
        end_at=None,
        exit_code=None,
        signal=None,
        nodes="",
        node_hours=None,
        activity="unknown",
        fruitless=0,
    )


def _taken(record: JobAgent, sighting: Sighting, state: AgentState, log_path: str) -> JobAgent:
    """The record with what the row adds. A row without an exit code (squeue) does not take away one that was known."""
    job = sighting.job
    ended = state == "ended"
    start_at = job.started_at or record.start_at
    end_at = job.ended_at or record.end_at
    return msgspec.structs.replace(
        record,
        state=state,
        missing_since=None,
        job_id=f"{job.array_job_id}_{sighting.index}" if job.indices else str(job.array_job_id),
        # A word that nobody knows would hide how far the run is when the agent is missing later.
        slurm_state=job.state.text if job.state.name != UNKNOWN or not record.slurm_state else record.slurm_state,
        reason=job.reason,
        nodes=sighting.node or record.nodes,
        qos=job.qos or record.qos,
        submit_at=job.submitted_at or record.submit_at,
        eligible_at=job.eligible_at or record.eligible_at,
        start_at=start_at,
        end_at=end_at,
        exit_code=job.exit_code if job.exit_code is not None else record.exit_code,
        signal=job.signal if job.signal is not None else record.signal,
        node_hours=_node_hours(record, sighting, start_at, end_at) if ended else None,
        log_path=log_path or record.log_path,
        activity="unknown" if ended else record.activity,
    )


def _node_hours(
    record: JobAgent, sighting: Sighting, start_at: datetime | None, end_at: datetime | None
) -> float | None:
    """What an agent's run took: nodes times hours, one node when it shares the batch job with others.

    sacct's own elapsed time is without suspensions, so what it said stays.
    """
    job = sighting.job
    if job.elapsed_s is not None:
        elapsed_s: float = job.elapsed_s
    elif record.node_hours is None and start_at is not None and end_at is not None:
        elapsed_s = (end_at - start_at).total_seconds()
    else:
        return record.node_hours
    nodes = 1 if sighting.shared else job.nodes or 1
    return round(nodes * elapsed_s / SECONDS_PER_HOUR, 4)

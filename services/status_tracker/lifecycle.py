"""What an observation makes of a job agent's record. Pure.

One run of a batch job only goes forward: queued, running, ended. A row that is further back was true once and comes
late. Ended is final, but for Slurm's own requeue: squeue then shows a later submit instant (seen on a real Slurm
22.05), which is a new run with a new number. An agent that is missing is unaccounted, then forgotten; a row that
shows it again puts it back to where it was. So the order in which observations arrive does not matter in the end.
"""

from datetime import datetime

import msgspec

from libs.events.messages import AgentState, JobAgent
from libs.slurm.states import RANK, UNKNOWN, Ending, Phase, State, classify
from services.status_tracker.counting import Sighting

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

VOID_EXIT_CODE = 85
# Exit codes of our batch script.
SCRIPT_VERDICTS = {
    VOID_EXIT_CODE: "void: executed after void_after",
    86: "no CVMFS",
    87: "no readable job-agent token",
}
FORGOTTEN_VERDICT = "forgotten: Slurm acknowledged it and knows nothing of it any more"


def seen(record: JobAgent | None, sighting: Sighting, *, machine: str, listed_at: datetime) -> JobAgent:
    """The record after a row of a listing or of sacct that was asked for at `listed_at`."""
    job = sighting.job
    if record is None:
        record = JobAgent(
            agent=sighting.agent,
            submission=sighting.submission,
            index=sighting.index,
            ce=sighting.ce,
            machine=machine,
            state="queued",
            first_listed_at=listed_at,
        )
        return _taken(record, sighting, SAME_RUN[None, job.state.phase])
    if record.submit_at is not None and job.submitted_at is not None:
        if job.submitted_at < record.submit_at:
            return record
        if job.submitted_at > record.submit_at and record.slurm_state:
            again = msgspec.structs.replace(
                record,
                run=record.run + 1,
                start_at=None,
                end_at=None,
                exit_code=None,
                signal=None,
                nodes="",
                void=False,
            )
            return _taken(again, sighting, SAME_RUN[None, job.state.phase])
    before = progress(record)
    state = SAME_RUN[before, job.state.phase]
    back = msgspec.structs.replace(record, state=state, missing_since=None, verdict=_verdict_of(record, state))
    if job.state.phase is Phase.UNKNOWN or (before is not None and RANK[job.state.phase] < RANK[Phase(before)]):
        # The row is a state behind, or one that nobody knows: it proves that the agent is there, and nothing else.
        return record if before == "ended" else back
    return _taken(back, sighting, state)


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


def never_seen(
    submission: str, index: int, *, ce: str, machine: str, qos: str, job_id: str, listed_at: datetime
) -> JobAgent:
    """The record of an agent that Slurm accepted and that no listing shows though it should by now."""
    return JobAgent(
        agent=f"{submission}.{index}",
        submission=submission,
        index=index,
        ce=ce,
        machine=machine,
        state="unaccounted",
        first_listed_at=listed_at,
        job_id=f"{job_id}_{index}" if job_id else "",
        qos=qos,
        missing_since=listed_at,
    )


def forgotten(record: JobAgent) -> JobAgent:
    """The record of an unaccounted agent that is given up."""
    if record.state != "unaccounted":
        return record
    return msgspec.structs.replace(record, state="forgotten", verdict=FORGOTTEN_VERDICT)


def verdict(state: State, exit_code: int | None, signal: int | None, nodes: str) -> str:
    """What became of an ended agent, in plain words."""
    where = f" on {nodes}" if nodes else ""
    if state.ending is Ending.FAILED:
        if exit_code in SCRIPT_VERDICTS:
            return SCRIPT_VERDICTS[exit_code] + where
        if signal:
            return f"killed by signal {signal}{where}"
        return f"failed with exit code {exit_code}{where}" if exit_code is not None else f"failed{where}"
    words = {
        Ending.OK: "completed",
        Ending.CANCELLED: "cancelled" + ("" if state.cancelled_by is None else f" by user id {state.cancelled_by}"),
        Ending.TIME_LIMIT: "ended by its time limit",
        Ending.NODE_FAILED: f"node failed{where}",
        Ending.OUT_OF_MEMORY: f"out of memory{where}",
        Ending.PREEMPTED: "preempted",
        Ending.REVOKED: "revoked: a sibling in another cluster ran",
    }
    return words[state.ending] if state.ending else ""


def _verdict_of(record: JobAgent, state: AgentState) -> str:
    return record.verdict if state == "ended" else ""


def _taken(record: JobAgent, sighting: Sighting, state: AgentState) -> JobAgent:
    """The record with what the row adds. A row without an exit code (squeue) does not take away one that was known."""
    job = sighting.job
    exit_code = job.exit_code if job.exit_code is not None else record.exit_code
    signal = job.signal if job.signal is not None else record.signal
    nodes = job.node_list or record.nodes
    ended = state == "ended"
    return msgspec.structs.replace(
        record,
        state=state,
        missing_since=None,
        job_id=f"{job.array_job_id}_{sighting.index}" if job.indices else str(job.array_job_id),
        # A word that nobody knows would hide how far the run is when the agent is missing later.
        slurm_state=job.state.text if job.state.name != UNKNOWN or not record.slurm_state else record.slurm_state,
        reason=job.reason,
        nodes=nodes,
        qos=job.qos or record.qos,
        submit_at=job.submitted_at or record.submit_at,
        start_at=job.started_at or record.start_at,
        end_at=job.ended_at or record.end_at,
        exit_code=exit_code,
        signal=signal,
        void=ended and job.state.ending is Ending.FAILED and exit_code == VOID_EXIT_CODE,
        verdict=verdict(job.state, exit_code, signal, nodes) if ended else "",
    )

"""Job agents: the record in `job_agents` and the event of its changes."""

from datetime import datetime
from typing import Literal

import msgspec

from libs.events.messages.event import Event

AgentState = Literal["queued", "running", "unaccounted", "ended", "forgotten"]


class JobAgent(msgspec.Struct, frozen=True, kw_only=True):
    """Record of one job agent in the bucket `job_agents`, under `<submission>.<array index>`.

    `first_listed_at` is the `listed_at` of the first observation that counted it. `job_id` is Slurm's, with the array
    index (`123_4`); ids may be reused after a controller crash, the name is the key. `run` counts Slurm's requeues.
    """

    agent: str
    submission: str
    index: int
    ce: str
    machine: str
    state: AgentState
    first_listed_at: datetime
    job_id: str = ""
    slurm_state: str = ""
    reason: str = ""
    nodes: str = ""
    qos: str = ""
    submit_at: datetime | None = None
    start_at: datetime | None = None
    end_at: datetime | None = None
    exit_code: int | None = None
    signal: int | None = None
    run: int = 0
    missing_since: datetime | None = None
    void: bool = False
    verdict: str = ""


class JobAgentChanged(Event, frozen=True, kw_only=True):
    """A job agent's record changed: the whole new record, and its state before (None at first sight)."""

    was: AgentState | None
    record: JobAgent

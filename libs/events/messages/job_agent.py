"""Job agents: the record in `job_agents` and the event of its changes."""

from datetime import datetime
from typing import Literal

import msgspec

from libs.events.messages.event import Event

AgentState = Literal["queued", "running", "unaccounted", "ended", "forgotten"]
# What a running agent does, from its ApMon datagrams; unknown when nothing could tell.
Activity = Literal["unknown", "silent", "idle", "working"]
# How an agent ended, as summaries count it; empty while it lives.
Ending = Literal[
    "",
    "completed",
    "no_grid_jobs",
    "time_limit",
    "cancelled",
    "failed",
    "killed",
    "node_failed",
    "out_of_memory",
    "preempted",
    "no_cvmfs",
    "no_token",
    "no_java",
    "no_directory",
    "void",
    "forgotten",
    "revoked",
]


class JobAgent(msgspec.Struct, frozen=True, kw_only=True):
    """Record of one job agent in the bucket `job_agents`, under `<submission>.<array index>`.

    With several agents per batch job the node's `rank` follows the index, in the key, too. `first_listed_at` is the
    `listed_at` of the first observation that counted it. `job_id` is Slurm's, with the array index (`123_4`); ids may
    be reused after a controller crash, the name is the key. `run` counts Slurm's requeues. `node_hours` is what its run
    took, before the facility's factors. `grid_jobs` are the last ALICE job ids of its datagrams, `grid_jobs_total` how
    many there were, `fruitless` how often it asked in vain since. `activity` and `monitored_at` (the last datagram) are
    refreshed when they tell something new, `working_s` is how long it had grid jobs. `verdict` is for people, `ending`
    for counting.
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
    rank: int = 0
    eligible_at: datetime | None = None
    node_hours: float | None = None
    log_path: str = ""
    ending: Ending = ""
    activity: Activity = "unknown"
    monitored_at: datetime | None = None
    grid_jobs: list[int] = []
    grid_jobs_total: int = 0
    fruitless: int = 0
    working_s: float = 0.0


class JobAgentChanged(Event, frozen=True, kw_only=True):
    """A job agent's record changed: the whole new record, and its state before (None at first sight)."""

    was: AgentState | None
    record: JobAgent

"""The model's jobs: a Batch is one sbatch call, an Element one batch job of it (a task of an array, or the whole).

All instants are model time (see clock). Every state of Slurm is here; troubles.py says which need the admin's word.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tests.world.superfacility.commands import Pieces
from tests.world.superfacility.hostlists import write_hosts

PENDING, CONFIGURING, RUNNING, SUSPENDED, COMPLETING = "PENDING", "CONFIGURING", "RUNNING", "SUSPENDED", "COMPLETING"
# squeue lists these unless asked for others.
ACTIVE_STATES = (PENDING, CONFIGURING, RUNNING, SUSPENDED, COMPLETING)
ENDED_STATES = (
    "COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "DEADLINE", "OUT_OF_MEMORY",
    "REVOKED",
)  # fmt: skip
# https://slurm.schedmd.com/squeue.html#SECTION_JOB-STATE-CODES
STATE_CODES = {
    "PENDING": "PD", "CONFIGURING": "CF", "RUNNING": "R", "SUSPENDED": "S", "COMPLETING": "CG", "COMPLETED": "CD",
    "CANCELLED": "CA", "FAILED": "F", "TIMEOUT": "TO", "NODE_FAIL": "NF", "PREEMPTED": "PR", "BOOT_FAIL": "BF",
    "DEADLINE": "DL", "OUT_OF_MEMORY": "OOM", "REVOKED": "RV", "REQUEUED": "RQ", "REQUEUE_FED": "RF",
    "REQUEUE_HOLD": "RH", "RESIZING": "RS", "RESV_DEL_HOLD": "RD", "SIGNALING": "SI", "SPECIAL_EXIT": "SE",
    "STAGE_OUT": "SO", "STOPPED": "ST",
}  # fmt: skip
# Flags upon PENDING or RUNNING: such a job is listed under its flag's name, and asked for under either.
FLAGGED_PENDING = ("REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT")
FLAGGED_RUNNING = ("RESIZING", "SIGNALING", "STAGE_OUT", "STOPPED")


@dataclass(eq=False)
class Batch:
    """What one sbatch call asked for; `accepted_at` is the wall clock's instant."""

    job_id: int
    name: str
    comment: str
    account: str
    qos: str
    partition: str
    user: str
    uid: int
    group: str
    time_limit_s: int
    nodes: int
    constraint: str
    licenses: str
    output: str
    error: str
    directory: Path
    command: str
    submit_line: str
    script: str
    script_args: tuple[str, ...]
    environment: dict[str, str]
    tasks: tuple[int, ...] | None
    throttle: int | None
    held: bool
    requeue: bool
    excluded: frozenset[str]
    gpus: int
    begin_at: float | None
    deadline_at: float | None
    submit_at: float
    accepted_at: float
    priority: int
    elements: list[Element] = field(default_factory=list, repr=False)
    waiting: dict[Element, None] = field(default_factory=dict, repr=False)
    reason: str = "None"
    started: int = 0
    ended: int = 0
    last_end_at: float = 0.0
    forgotten_at: float | None = None

    def never_started(self) -> list[Element]:
        """Pending elements and those cancelled while pending: Slurm keeps one record for all of them."""
        return [element for element in self.elements if element.raw_id is None]


@dataclass(eq=False, slots=True)
class Element:
    """One batch job; `run` counts its starts, so that what is left of an earlier start is known as such."""

    batch: Batch
    index: int | None
    raw_id: int | None = None
    state: str = PENDING
    own_reason: str = ""
    final_state: str = ""
    cancelled_by: int | None = None
    held: bool = False
    submit_at: float = 0.0
    eligible_at: float = 0.0
    start_at: float | None = None
    completing_at: float | None = None
    end_at: float | None = None
    suspended_at: float | None = None
    suspended_s: float = 0.0
    exit_code: int = 0
    exit_signal: int = 0
    nodes: tuple[str, ...] = ()
    run: int = 0
    restarts: int = 0
    # Its rows of sacct, those of the job and of its step, once it has ended (see accounting).
    written: tuple[Pieces, ...] = field(default=(), repr=False)

    @property
    def label(self) -> str:
        return str(self.batch.job_id) if self.index is None else f"{self.batch.job_id}_{self.index}"

    @property
    def pending(self) -> bool:
        return self.state == PENDING or self.state in FLAGGED_PENDING

    @property
    def on_nodes(self) -> bool:
        return not self.pending and self.end_at is None

    @property
    def reason(self) -> str:
        return self.own_reason or (self.batch.reason if self.pending else "None")

    @property
    def node_list(self) -> str:
        return self.nodes[0] if len(self.nodes) == 1 else write_hosts(self.nodes)

    def run_s(self, now: float) -> float:
        """Return how long it has run, suspensions apart."""
        if self.start_at is None:
            return 0.0
        until = self.end_at if self.end_at is not None else self.suspended_at if self.suspended_at is not None else now
        return max(0.0, until - self.start_at - self.suspended_s)

    def state_at(self, instant: float) -> str | None:
        """Return the state that it had then (None: not accepted yet), as lagging observers see it."""
        if instant < self.submit_at and not self.restarts:
            return None
        if self.end_at is not None and instant >= self.end_at:
            return self.state
        if self.start_at is None or instant < self.start_at:
            return PENDING if self.end_at is not None or not self.pending else self.state
        if self.completing_at is not None and instant >= self.completing_at:
            return COMPLETING
        return RUNNING if self.end_at is not None or self.state == COMPLETING else self.state

"""The model's jobs: a Batch is one sbatch call, an Element one batch job of it (a task of an array, or the whole)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

PENDING, RUNNING, COMPLETING = "PENDING", "RUNNING", "COMPLETING"
ACTIVE_STATES = (PENDING, RUNNING, COMPLETING)
# https://slurm.schedmd.com/squeue.html#SECTION_JOB-STATE-CODES
STATE_CODES = {
    "PENDING": "PD", "RUNNING": "R", "COMPLETING": "CG", "COMPLETED": "CD", "CANCELLED": "CA", "FAILED": "F",
    "TIMEOUT": "TO", "NODE_FAIL": "NF", "PREEMPTED": "PR", "BOOT_FAIL": "BF", "DEADLINE": "DL", "OUT_OF_MEMORY": "OOM",
    "CONFIGURING": "CF", "SUSPENDED": "S", "REQUEUED": "RQ",
}  # fmt: skip


@dataclass(frozen=True)
class Batch:
    """What one sbatch call asked for."""

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
    submit_at: float
    priority: int
    elements: list[Element] = field(default_factory=list, repr=False)

    def pending(self) -> list[Element]:
        return [element for element in self.elements if element.state == PENDING]

    def never_started(self) -> list[Element]:
        """Pending elements and those cancelled while pending: Slurm keeps one record for all of them."""
        return [element for element in self.elements if element.raw_id is None]


@dataclass(eq=False)
class Element:
    """One batch job; instants are unix seconds."""

    batch: Batch
    index: int | None
    raw_id: int | None = None
    state: str = PENDING
    reason: str = "None"
    final_state: str = ""
    cancelled_by: int | None = None
    start_at: float | None = None
    end_at: float | None = None
    exit_code: int = 0
    exit_signal: int = 0
    nodes: list[str] = field(default_factory=list)
    process: asyncio.subprocess.Process | None = None

    @property
    def label(self) -> str:
        return str(self.batch.job_id) if self.index is None else f"{self.batch.job_id}_{self.index}"

    @property
    def accounting_state(self) -> str:
        """sacct's word: who cancelled is told; a job that is completing counts as running."""
        if self.state == COMPLETING:
            return RUNNING
        return f"CANCELLED by {self.cancelled_by}" if self.state == "CANCELLED" else self.state

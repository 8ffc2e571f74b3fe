"""The model's slurmctld: accepts, starts on free whole nodes, ends, cancels and remembers batch jobs."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.world.superfacility.model import runner
from tests.world.superfacility.model.jobs import ACTIVE_STATES, COMPLETING, PENDING, RUNNING, Batch, Element

TICK_S = 0.2
KILL_WAIT_S = 5.0
FIRST_NODE = 4096
PARTITION_MAX_TIME_S = 48 * 3600
# squeue and scontrol know an ended job for this long (MinJobAge); sacct knows it for good.
MIN_JOB_AGE_S = 300.0
RECORDS_MAX = 100_000


@dataclass(frozen=True)
class QosLimits:
    """None is no limit."""

    max_submit: int | None = 5000
    max_running: int | None = None
    max_wall_s: int = 48 * 3600


QOS = {
    "regular": QosLimits(),
    "preempt": QosLimits(),
    "debug": QosLimits(max_submit=5, max_running=2, max_wall_s=30 * 60),
}


class RefusedError(Exception):
    """slurmctld refuses a submission; the message is what sbatch prints."""


@dataclass
class Controller:
    """One model cluster of `nodes` whole nodes; `environment` is what every job's process inherits."""

    state: Path
    nodes: int
    cpus: int
    account: str
    user: str
    environment: dict[str, str]
    batches: dict[int, Batch] = field(default_factory=dict)
    next_id: int = 1
    _running: set[asyncio.Task[None]] = field(default_factory=set)
    _ticker: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self.node_names = [f"nid{FIRST_NODE + number:06d}" for number in range(self.nodes)]
        self.free_nodes = list(self.node_names)

    def start(self) -> None:
        """Begin to schedule."""
        self._ticker = asyncio.create_task(self._tick_for_ever())

    async def close(self) -> None:
        """End every job's processes, wait for them, and stop."""
        if self._ticker is not None:
            self._ticker.cancel()
        for element in self.elements():
            if element.process is not None and element.process.returncode is None:
                self._end(element, "CANCELLED", kill_wait_s=2.0)
        if self._running:
            await asyncio.wait(self._running, timeout=4.0)
        runner.kill_leftovers(self.state)

    def elements(self) -> Iterator[Element]:
        """Yield every element of every batch that is remembered."""
        for batch in self.batches.values():
            yield from batch.elements

    def submit(self, batch: Batch) -> None:
        """Accept a batch or raise RefusedError with Slurm's own text."""
        limit = QOS[batch.qos].max_submit
        active = sum(
            element.state in ACTIVE_STATES and element.batch.qos == batch.qos and element.batch.user == batch.user
            for element in self.elements()
        )
        asked = len(batch.tasks) if batch.tasks is not None else 1
        if limit is not None and active + asked > limit:
            raise RefusedError(
                "sbatch: error: QOSMaxSubmitJobPerUserLimit\n"
                "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy "
                "(job submit limit, user's size and/or time limits)"
            )
        if len(self.batches) >= RECORDS_MAX:
            raise RefusedError("sbatch: error: Batch job submission failed: Resource temporarily unavailable")
        for index in batch.tasks if batch.tasks is not None else (None,):
            batch.elements.append(Element(batch, index, reason=self._why_not(batch)))
        if batch.tasks is None:
            batch.elements[0].raw_id = batch.job_id
        self.batches[batch.job_id] = batch

    def take_id(self) -> int:
        """Return the next job id."""
        self.next_id += 1
        return self.next_id - 1

    def cancel(self, element: Element) -> None:
        """Cancel one element; ended ones stay as they are."""
        if element.state == PENDING:
            element.state, element.cancelled_by, element.end_at = "CANCELLED", os.getuid(), time.time()
        elif element.state == RUNNING:
            element.cancelled_by = os.getuid()
            self._end(element, "CANCELLED", kill_wait_s=KILL_WAIT_S)

    def known(self, element: Element) -> bool:
        """Say whether squeue and scontrol still know it."""
        return element.end_at is None or time.time() - element.end_at < MIN_JOB_AGE_S

    async def _tick_for_ever(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self.schedule()
            now = time.time()
            for element in self.elements():
                if element.state == RUNNING and now >= (element.start_at or now) + element.batch.time_limit_s:
                    self._end(element, "TIMEOUT", kill_wait_s=KILL_WAIT_S)

    def schedule(self) -> None:
        """Start in order of submission what fits, and say of the rest why it waits."""
        blocked = False
        for batch in self.batches.values():
            for element in batch.pending():
                element.reason = self._why_not(batch)
                if element.reason != "None":
                    continue
                if blocked or batch.nodes > len(self.free_nodes):
                    element.reason = "Priority" if blocked else "Resources"
                    blocked = True
                    continue
                self._start(element)

    def _why_not(self, batch: Batch) -> str:
        limits = QOS[batch.qos]
        running = [element for element in batch.elements if element.state in (RUNNING, COMPLETING)]
        reason = "None"
        if batch.held:
            reason = "JobHeldUser"
        elif batch.time_limit_s > PARTITION_MAX_TIME_S:
            reason = "PartitionTimeLimit"
        elif batch.nodes > self.nodes:
            reason = "PartitionNodeLimit"
        elif batch.time_limit_s > limits.max_wall_s:
            reason = "QOSMaxWallDurationPerJobLimit"
        elif batch.throttle is not None and len(running) >= batch.throttle:
            reason = "JobArrayTaskLimit"
        elif limits.max_running is not None and limits.max_running <= sum(
            element.state in (RUNNING, COMPLETING) and element.batch.qos == batch.qos for element in self.elements()
        ):
            reason = "QOSMaxJobsPerUserLimit"
        return reason

    def _start(self, element: Element) -> None:
        batch = element.batch
        if element.raw_id is None:
            # Slurm gives a started task an id of its own; the last pending one keeps the array's.
            element.raw_id = self.take_id() if len(batch.pending()) > 1 else batch.job_id
        element.nodes, self.free_nodes = self.free_nodes[: batch.nodes], self.free_nodes[batch.nodes :]
        element.state, element.start_at = RUNNING, time.time()
        task = asyncio.create_task(self._run(element))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _run(self, element: Element) -> None:
        environment = {
            **element.batch.environment,
            **self.environment,
            **runner.job_environment(element, cpus=self.cpus),
            runner.STATE_MARK: str(self.state),
        }
        code, number = await runner.run_script(element, spool=self.state / "spool", environment=environment)
        if element.final_state:
            element.state = element.final_state
        else:
            element.exit_code, element.exit_signal = code, number
            element.state = "FAILED" if code or number else "COMPLETED"
        element.end_at = time.time()
        self.free_nodes = sorted(self.free_nodes + element.nodes)

    def _end(self, element: Element, final_state: str, *, kill_wait_s: float) -> None:
        element.final_state, element.state = final_state, COMPLETING
        task = asyncio.create_task(runner.end_process(element, kill_wait_s=kill_wait_s))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

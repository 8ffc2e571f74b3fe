"""The model's slurmctld: accepts, starts on free whole nodes, ends, cancels, requeues and remembers batch jobs.

A discrete simulation: whatever is due happens in order at its own model time, however late `advance` is called, so
that a day of jobs gives the same records at any speed.
"""

from __future__ import annotations

import bisect
import copy
import heapq
import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from tests.world.superfacility.model.clock import Clock
from tests.world.superfacility.model.jobs import COMPLETING, CONFIGURING, PENDING, RUNNING, SUSPENDED, Batch, Element
from tests.world.superfacility.model.limits import MAX_SUBMIT_TEXT, RECORDS_TEXT, QosLimits, RefusedError
from tests.world.superfacility.model.nodes import Nodes
from tests.world.superfacility.model.scheduler import Scheduler

# squeue and scontrol know an ended job for this long (MinJobAge); sacct knows it for good.
MIN_JOB_AGE_S = 300.0
# A requeued job is eligible again after this.
REQUEUE_DELAY_S = 121.0
RECORDS_MAX = 1_000_000
REQUEUED_AFTER = ("NODE_FAIL", "BOOT_FAIL", "REQUEUED", "REQUEUE_HOLD")


class Launch(Protocol):
    """Runs the started jobs; each end comes back by `Controller.exited`."""

    def start(self, element: Element) -> None:
        """Begin to run an element that has its nodes."""

    def stop(self, element: Element, *, at_once: bool) -> None:
        """Signal it, as Slurm does before it kills; `at_once` its nodes are gone."""

    def suspend(self, element: Element, *, suspended: bool) -> None:
        """Stop it for a while, or let it go on."""


@dataclass(frozen=True)
class Pace:
    """How long things take, in model seconds."""

    schedule_s: float = 0.2
    configuring_s: float = 0.0
    completing_s: float = 0.0
    squeue_lag_s: float = 0.0
    sacct_lag_s: float = 0.0


class Controller:
    """One model cluster; `launch` is set before the first job is submitted."""

    def __init__(self, clock: Clock, nodes: Nodes, qos: dict[str, QosLimits], *, account: str, pace: Pace) -> None:
        self.clock, self.nodes, self.qos, self.account, self.pace = clock, nodes, qos, account, pace
        self.launch: Launch
        self.time = clock.now()
        self.next_id = 1
        self.batches: dict[int, Batch] = {}
        self.live: dict[int, Batch] = {}
        self.started: dict[int, Element] = {}
        self.ledger: list[Batch] = []
        self.former: list[Element] = []
        self.records = 0
        self.submitted: Counter[tuple[str, str]] = Counter()
        self.on_change: Callable[[], None] = lambda: None
        self.on_end: Callable[[Element], None] = lambda element: None
        self.scheduler = Scheduler(self)
        self._events: list[tuple[float, int, Callable[[Element], None] | Callable[[], None], Element | None, int]] = []
        self._order = itertools.count()

    def advance(self, events_max: int | None = None) -> float | None:
        """Let everything happen that is due; returns the model time of the next event, None without one."""
        now = self.clock.now()
        while self._events and self._events[0][0] <= now and (events_max is None or events_max > 0):
            at, _, act, element, run = heapq.heappop(self._events)
            self.time = max(self.time, at)
            if element is None:
                act()  # type: ignore[call-arg]
            elif element.run == run:
                act(element)  # type: ignore[call-arg]
            events_max = None if events_max is None else events_max - 1
        if not self._events:
            self.time = max(self.time, now)
            return None
        if self._events[0][0] > now:
            self.time = max(self.time, now)
        return self._events[0][0]

    def after(self, delay_s: float, act: Callable[[Element], None], element: Element) -> None:
        """Let something happen to an element, unless it has been requeued by then."""
        heapq.heappush(self._events, (self.time + delay_s, next(self._order), act, element, element.run))
        self.on_change()

    def at(self, instant: float, act: Callable[[], None]) -> None:
        """Let something happen at a model time."""
        heapq.heappush(self._events, (instant, next(self._order), act, None, 0))
        self.on_change()

    def submit(self, batch: Batch) -> None:
        """Accept a batch or raise RefusedError with Slurm's own text."""
        asked = len(batch.tasks) if batch.tasks is not None else 1
        limit, whose = self.qos[batch.qos].max_submit, (batch.user, batch.qos)
        if limit is not None and self.submitted[whose] + asked > limit:
            raise RefusedError(MAX_SUBMIT_TEXT)
        if self.records + asked > RECORDS_MAX:
            raise RefusedError(RECORDS_TEXT)
        eligible = batch.begin_at if batch.begin_at is not None else batch.submit_at
        for index in batch.tasks if batch.tasks is not None else (None,):
            element = Element(batch, index, submit_at=batch.submit_at, eligible_at=eligible, held=batch.held)
            element.own_reason = "JobHeldUser" if batch.held else ""
            batch.elements.append(element)
            batch.waiting[element] = None
            if batch.deadline_at is not None:
                self.after(max(0.0, batch.deadline_at - self.time), self._miss_deadline, element)
        if batch.tasks is None:
            batch.elements[0].raw_id = batch.job_id
        self.records += asked
        self.submitted[whose] += asked
        self.batches[batch.job_id] = self.live[batch.job_id] = self.scheduler.waiting[batch.job_id] = batch
        self.ledger.append(batch)
        self.scheduler.wake(eligible)

    def take_id(self) -> int:
        """Return the next job id that nothing bears."""
        while self.next_id in self.batches or self.next_id in self.started:
            self.next_id += 1
        self.next_id += 1
        return self.next_id - 1

    def find(self, word: str) -> list[Element]:
        """Return the elements that `12`, `12_3` or a started task's own id names."""
        number, _, index = word.partition("_")
        batch = self.batches.get(int(number)) if number.isdigit() else None
        if batch is None:
            started = self.started.get(int(number)) if number.isdigit() and not index else None
            return [started] if started is not None else []
        if not index:
            return list(batch.elements)
        if not index.isdigit() or batch.tasks is None:
            return []
        place = bisect.bisect_left(batch.tasks, int(index))
        return batch.elements[place : place + 1] if batch.tasks[place : place + 1] == (int(index),) else []

    def known(self) -> Iterator[Element]:
        """Yield what squeue and scontrol still know."""
        oldest = self.time - MIN_JOB_AGE_S
        for batch in list(self.live.values()):
            if batch.ended == len(batch.elements) and batch.last_end_at < oldest:
                del self.live[batch.job_id]
                continue
            yield from (element for element in batch.elements if element.end_at is None or element.end_at >= oldest)

    def knows(self, element: Element) -> bool:
        """Say whether squeue and scontrol still know it."""
        return element.end_at is None or element.end_at >= self.time - MIN_JOB_AGE_S

    def begin(self, element: Element, nodes: tuple[str, ...]) -> None:
        """Start an element on the nodes that were taken for it."""
        batch = element.batch
        if element.raw_id is None:
            # Slurm gives a started task an id of its own; the last pending one keeps the array's.
            element.raw_id = self.take_id() if len(batch.waiting) > 1 else batch.job_id
        batch.waiting.pop(element, None)
        if element.raw_id != batch.job_id:
            self.started[element.raw_id] = element
        batch.started += 1
        element.run += 1
        element.nodes, element.start_at, element.own_reason = nodes, self.time, ""
        element.state = CONFIGURING if self.pace.configuring_s > 0 else RUNNING
        self.after(batch.time_limit_s, self._time_out, element)
        if self.pace.configuring_s > 0:
            self.after(self.pace.configuring_s, self._boot, element)
        else:
            self.launch.start(element)

    def _boot(self, element: Element) -> None:
        if element.state == CONFIGURING:
            element.state = RUNNING
            self.launch.start(element)

    def _time_out(self, element: Element) -> None:
        if element.state == SUSPENDED:
            return
        if element.suspended_s and element.run_s(self.time) < element.batch.time_limit_s:
            self.after(element.batch.time_limit_s - element.run_s(self.time), self._time_out, element)
            return
        self.end(element, "TIMEOUT")

    def _miss_deadline(self, element: Element) -> None:
        if element.end_at is None:
            element.own_reason = "DeadLine"
            self.end(element, "DEADLINE")

    def cancel(self, element: Element) -> None:
        """Cancel one element; ended ones stay as they are."""
        if element.end_at is None and element.state != COMPLETING:
            element.cancelled_by = os.getuid()
            self.end(element, "CANCELLED")

    def end(self, element: Element, final_state: str, *, at_once: bool = False) -> None:
        """End an element in a state: a pending one now, a running one by its launch; `at_once` without signals."""
        if element.end_at is not None:
            return
        if element.pending:
            element.own_reason = element.own_reason or element.batch.reason
            element.state = final_state
            self._ended(element)
            return
        booting = element.state == CONFIGURING
        element.final_state = final_state
        element.suspended_s += self.time - element.suspended_at if element.suspended_at is not None else 0.0
        element.suspended_at = None
        if element.state != COMPLETING:
            element.state, element.completing_at = COMPLETING, self.time
        if booting or at_once:
            if not booting:
                self.launch.stop(element, at_once=True)
            self._leave(element)
        else:
            self.launch.stop(element, at_once=False)

    def exited(self, element: Element, run: int, exit_code: int, exit_signal: int) -> None:
        """Take note that an element's process has ended, by itself or because it was stopped."""
        if element.run != run or element.end_at is not None or element.pending:
            return
        if not element.final_state:
            element.exit_code, element.exit_signal = exit_code, exit_signal
            element.final_state = "FAILED" if exit_code or exit_signal else "COMPLETED"
        if self.pace.completing_s > 0:
            element.state, element.completing_at = COMPLETING, element.completing_at or self.time
            self.after(self.pace.completing_s, self._leave, element)
        else:
            self._leave(element)

    def _leave(self, element: Element) -> None:
        if element.end_at is not None or element.pending:
            return
        batch, final = element.batch, element.final_state
        batch.started -= 1
        self.nodes.give_back(element.nodes)
        element.state = final
        if final in REQUEUED_AFTER and batch.requeue:
            self._requeue(element)
        else:
            self._ended(element)

    def _ended(self, element: Element) -> None:
        batch = element.batch
        element.end_at = batch.last_end_at = self.time
        batch.ended += 1
        batch.waiting.pop(element, None)
        self.submitted[batch.user, batch.qos] -= 1
        self.on_end(element)
        self.scheduler.wake()

    def _requeue(self, element: Element) -> None:
        """Let it wait again; sacct keeps the record of the start that came to nothing."""
        record = copy.copy(element)
        record.end_at = self.time
        if record.state == "REQUEUE_HOLD":
            record.state = "REQUEUED"
        self.former.append(record)
        flag = element.final_state
        element.run += 1
        element.restarts += 1
        element.held = flag == "REQUEUE_HOLD"
        element.state = flag if element.held else PENDING
        element.own_reason = "JobHeldUser" if element.held else "BeginTime"
        element.submit_at, element.eligible_at = self.time, self.time + REQUEUE_DELAY_S
        element.final_state, element.nodes, element.suspended_s = "", (), 0.0
        element.start_at = element.completing_at = element.suspended_at = None
        element.exit_code = element.exit_signal = 0
        element.batch.waiting[element] = None
        self.scheduler.waiting[element.batch.job_id] = element.batch
        self.scheduler.wake(element.eligible_at)

    def running(self) -> Iterator[Element]:
        """Yield every element that has nodes."""
        for batch in self.live.values():
            if batch.started:
                yield from (element for element in batch.elements if element.on_nodes)

    def all(self) -> Iterable[Element]:
        """Yield every element of every batch that is remembered."""
        return itertools.chain.from_iterable(batch.elements for batch in self.batches.values())

"""The model's scheduler: first come, first served by whole nodes, small jobs filled in, nothing into a maintenance."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tests.world.superfacility.model.jobs import PENDING, Batch, Element
from tests.world.superfacility.model.limits import PARTITION_MAX_TIME_S

if TYPE_CHECKING:
    from tests.world.superfacility.model.controller import Controller

RESERVED = "ReqNodeNotAvail, Reserved for maintenance"


class Scheduler:
    """Starts what fits; `waiting` holds the batches with a pending element, in order of submission."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self.waiting: dict[int, Batch] = {}
        self.windows: list[tuple[float, float]] = []
        self._due_at = float("inf")

    def wake(self, not_before: float = 0.0) -> None:
        """Let a pass happen soon, or when something becomes eligible."""
        controller = self._controller
        due_at = max(not_before, controller.time) + controller.pace.schedule_s
        if due_at < self._due_at or not_before > controller.time:
            self._due_at = min(due_at, self._due_at)
            controller.at(due_at, self._pass)

    def _pass(self) -> None:
        controller = self._controller
        self._due_at = float("inf")
        blocked: dict[str, float] = {}
        for batch in list(self.waiting.values()):
            if not batch.waiting:
                del self.waiting[batch.job_id]
                continue
            feature = feature_of(batch)
            free = controller.nodes.free(feature)
            if not free and len(blocked) == len(controller.nodes.names):
                break
            if self._limit(batch) or self._reserved(batch):
                continue
            if feature in blocked and controller.time + batch.time_limit_s > blocked[feature]:
                continue
            if not self._start_of(batch, feature):
                blocked.setdefault(feature, self._when_free(batch, feature))
            if not batch.waiting:
                del self.waiting[batch.job_id]

    def _start_of(self, batch: Batch, feature: str) -> bool:
        """Start what fits of a batch; False when nodes were missing."""
        controller = self._controller
        room = self._room(batch)
        for element in list(itertools.islice(self._eligible(batch), min(room, controller.nodes.free(feature) + 1))):
            nodes = controller.nodes.take(feature, batch.nodes, batch.excluded)
            if nodes is None:
                return False
            controller.begin(element, nodes)
        return True

    def _eligible(self, batch: Batch) -> Iterator[Element]:
        now = self._controller.time
        for element in batch.waiting:
            if not element.held and element.eligible_at <= now:
                if element.state != PENDING:
                    element.state = PENDING
                yield element

    def _room(self, batch: Batch) -> int:
        """Return how many more of a batch may run under its throttle and its QOS."""
        room = len(batch.waiting)
        if batch.throttle is not None:
            room = min(room, batch.throttle - batch.started)
        limit = self._controller.qos[batch.qos].max_running
        if limit is not None:
            running = sum(other.started for other in self._controller.live.values() if other.qos == batch.qos)
            room = min(room, limit - running)
        return max(0, room)

    def _limit(self, batch: Batch) -> str:
        """Return the limit that keeps a batch from ever starting as it is."""
        controller = self._controller
        if batch.time_limit_s > PARTITION_MAX_TIME_S:
            return "PartitionTimeLimit"
        if batch.nodes > controller.nodes.total(feature_of(batch)):
            return "PartitionNodeLimit"
        if batch.time_limit_s > controller.qos[batch.qos].max_wall_s:
            return "QOSMaxWallDurationPerJobLimit"
        return ""

    def _reserved(self, batch: Batch) -> bool:
        now = self._controller.time
        self.windows = [window for window in self.windows if window[1] > now]
        return any(start_at < now + batch.time_limit_s for start_at, _ in self.windows)

    def _when_free(self, batch: Batch, feature: str) -> float:
        """Return when enough nodes will be free by the time limits: what ends before that may go first."""
        controller = self._controller
        if batch.nodes == 1:
            return controller.time
        missing = batch.nodes - controller.nodes.free(feature)
        ends = sorted(
            ((item.start_at or 0.0) + item.batch.time_limit_s, item.batch.nodes)
            for item in controller.running()
            if feature_of(item.batch) == feature
        )
        for end_at, count in ends:
            missing -= count
            if missing <= 0:
                return end_at
        return float("inf")

    def reasons(self) -> None:
        """Write down why each batch waits; asked for by listings, so that passes stay short."""
        first: set[str] = set()
        for batch in self.waiting.values():
            feature = feature_of(batch)
            element = next((item for item in batch.waiting if not item.held), None)
            if element is None:
                continue
            if element.eligible_at > self._controller.time:
                batch.reason = "BeginTime"
            elif why := self._limit(batch):
                batch.reason = why
            elif self._room(batch) == 0:
                throttled = batch.throttle is not None and batch.started >= batch.throttle
                batch.reason = "JobArrayTaskLimit" if throttled else "QOSMaxJobsPerUserLimit"
            elif self._reserved(batch):
                batch.reason = RESERVED
            elif self._controller.time - element.eligible_at <= self._controller.pace.schedule_s and not first:
                batch.reason = "None"
            else:
                batch.reason = "Priority" if feature in first else "Resources"
                first.add(feature)


def feature_of(batch: Batch) -> str:
    """Return the kind of node that a batch runs on."""
    return "gpu" if "gpu" in batch.constraint.split("&") else "cpu"

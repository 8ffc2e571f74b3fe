"""Listen to the worker nodes' datagrams, and hand what they say of job agents to each machine's Liveness."""

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from opentelemetry import metrics

from libs.apmon import batches, datagram
from libs.bus.connection import Bus
from libs.events import subjects
from libs.runtime import clock
from libs.runtime.errors import Malformed
from services.status_tracker.rules import reports
from services.status_tracker.rules.liveness import Liveness

DURABLE = "status_tracker"
# What is older, after we or NATS were away for long, says nothing of now, and an hour of it would take minutes.
TOO_OLD = timedelta(minutes=10)
# Every cluster that tells of a job agent holds one of these; the others are not worth decoding.
MARKS = (b"ALIEN_", b"_Jobs")

log = logging.getLogger(__name__)


class Listener:
    """Reads `monitoring.received` beside the relay, which does not wait for us."""

    def __init__(self, bus: Bus, liveness: Sequence[Liveness]) -> None:
        self._bus = bus
        self._liveness = liveness
        meter = metrics.get_meter("nacre.status_tracker")
        self._datagrams = meter.create_counter("nacre.tracker_datagrams", description="datagrams by what they told")

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`. While NATS is away it waits."""
        async for delivery in self._bus.deliveries(subjects.MONITORING_RECEIVED, DURABLE, stop):
            self.take(delivery.body, clock.now())
            await delivery.done()

    def take(self, body: bytes, now: datetime) -> None:
        """One batch. What cannot be read, is too old or tells nothing is counted by why."""
        counts: Counter[str] = Counter()
        try:
            received = batches.decode(body)
        except Malformed as error:
            log.warning("a batch of datagrams cannot be read: %s", error)
            received, counts["unreadable batch"] = [], 1
        for one in received:
            counts[self._told(one, now)] += 1
        for liveness in self._liveness:
            counts.update(liveness.unjoined)
            liveness.unjoined.clear()
        for what, number in counts.items():
            self._datagrams.add(number, {"what": what})

    def _told(self, one: batches.Received, now: datetime) -> str:
        if not any(mark in one.body for mark in MARKS):
            return "of others"
        at = datetime.fromtimestamp(one.at_ns / 1e9, UTC)
        if now - at > TOO_OLD:
            return "too old"
        found = datagram.decode(one.body)
        report = reports.report_of(found.cluster or "", found.node or "", found.parameters)
        if report is None:
            return "of others"
        for liveness in self._liveness:
            liveness.take(report, min(at, now))
        return "of job agents"

"""The relay's story: receive -> ring -> stream -> forward; beside it our own reports and counts."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from libs.bus import connection
from libs.bus.connection import Bus, Latest
from libs.events import subjects
from libs.runtime import clock
from libs.runtime.errors import Transient
from libs.runtime.reconcile import reconcile
from libs.runtime.run import Context
from services.monitoring_relay import emit, receive, reports, settings
from services.monitoring_relay.reports import Counts
from services.monitoring_relay.ring import Ring

OBSERVE_EVERY_S = 5.0
PUBLISH_EVERY_S = 1.0
DRAIN_S = 10.0
UNREAD_S = 2.0
GLANCE_S = 0.02

log = logging.getLogger(__name__)


async def serve(context: Context) -> None:
    """Relay until asked to stop, then let everything that was received go out, for at most DRAIN_S."""
    own = settings.of(context)
    counts = Counts(since=clock.now())
    ring = Ring(own.ring_bytes, until_forwarded=bool(own.destinations))
    _measure(counts, ring)
    # The port opens before the bus is there: what comes meanwhile waits in the ring.
    async with contextlib.AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(receive.receiving(own.listen, own.buffer_bytes, ring, counts))
        context.health.good("receive")
        bus = await stack.enter_async_context(connection.attached(context))
        emitter = emit.Emitter([emit.Destination(name, counts) for name in own.destinations], ring, counts)
        stack.callback(emitter.close)
        publisher = receive.Publisher(bus, own.relay, own.replicas, ring, counts)
        observe = partial(_observe, context, bus, own.relay, receiver, counts)
        drained = asyncio.Event()
        loop = partial(reconcile, stop=drained, health=context.health)
        async with asyncio.TaskGroup() as group:
            group.create_task(loop("publish", publisher.step, every_s=PUBLISH_EVERY_S, wake=receiver.filled))
            group.create_task(loop("observe", observe, every_s=OBSERVE_EVERY_S))
            group.create_task(_drain(context.stop, receiver, ring, drained))
            if own.destinations:
                group.create_task(loop("resolve", emitter.resolve, every_s=emit.RESOLVE_EVERY_S))
                group.create_task(emitter.run(bus, drained))
            for name in own.ces:
                report = await _reporter(stack, bus, own, name, emitter)
                group.create_task(loop(f"report {name}", report, every_s=own.report_interval_s))
        with contextlib.suppress(Transient):
            await observe()


async def _drain(stop: asyncio.Event, receiver: receive.Receiver, ring: Ring, drained: asyncio.Event) -> None:
    """After `stop`: take what the kernel still holds, close the port, and wait until the ring is out."""
    await stop.wait()
    await _until(lambda: receiver.unread_bytes() == 0, UNREAD_S)
    receiver.count_kernel_drops()
    receiver.close()
    await _until(lambda: ring.unforwarded == 0, DRAIN_S)
    if ring.unforwarded:
        log.warning(
            "stopping with %d batches not forwarded, %d of them not in NATS", ring.unforwarded, ring.unpublished
        )
    drained.set()


async def _until(holds: Callable[[], bool], at_most_s: float) -> None:
    for _ in range(int(at_most_s / GLANCE_S)):
        if holds():
            return
        await asyncio.sleep(GLANCE_S)


async def _observe(context: Context, bus: Bus, relay: str, receiver: receive.Receiver, counts: Counts) -> None:
    receiver.count_kernel_drops()
    await bus.publish(
        subjects.MONITORING_OBSERVED, "site", counts.observed(relay, clock.now(), context.by), suffix=relay
    )


async def _reporter(
    stack: contextlib.AsyncExitStack, bus: Bus, own: settings.Settings, name: str, emitter: emit.Emitter
) -> Callable[[], Awaitable[None]]:
    """The step that sends one CE's numbers, while they are known, to every destination."""
    queue: Latest[Any] = await stack.enter_async_context(bus.latest(subjects.BATCH_QUEUE_OBSERVED, name))
    demand: Latest[Any] = await stack.enter_async_context(bus.latest(subjects.DEMAND_OBSERVED, name))
    ce = own.ces[name]
    cluster = reports.cluster_name(own.site, ce.name)

    async def report() -> None:
        values = reports.numbers(
            queue.value,
            demand.value,
            now=clock.now(),
            queue_max_age_s=ce.listing_max_age_s,
            demand_max_age_s=ce.demand_max_age_s,
        )
        for destination in emitter.destinations:
            await destination.report(cluster, ce.host, values)

    return report


def _measure(counts: Counts, ring: Ring) -> None:
    """The counts as metrics, read only when somebody asks for them."""
    meter = metrics.get_meter("nacre.monitoring_relay")

    def total(name: str, read: Callable[[], int | Mapping[str, int]], label: str = "") -> None:
        def observations(_: CallbackOptions) -> list[Observation]:
            found = read()
            if isinstance(found, int):
                return [Observation(found)]
            return [Observation(count, {label: key}) for key, count in found.items()]

        meter.create_observable_counter(f"nacre_relay_{name}", [observations])

    total("received", lambda: counts.received)
    total("salvaged", lambda: counts.salvaged)
    total("refused", lambda: counts.refused)
    total("published", lambda: counts.published)
    total("kernel_drops", lambda: counts.kernel_drops)
    total("forwarded", lambda: counts.forwarded, "destination")
    total("own_reports", lambda: counts.own_reports, "destination")
    total("dropped", lambda: counts.dropped, "reason")
    meter.create_observable_gauge("nacre_relay_ring_bytes", [lambda _: [Observation(ring.size_bytes)]])

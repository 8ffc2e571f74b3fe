"""The tracker's story: list -> ask sacct about those that left -> bring records on -> write them -> publish counts.

Beside it: listen to the agents' datagrams, judge nodes, ask the facility, fetch what failed agents wrote, and bring
what is over into summaries.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

from libs.bus import connection
from libs.bus.connection import Bus
from libs.events import subjects
from libs.runtime import clock
from libs.runtime.reconcile import reconcile
from libs.runtime.run import Context
from libs.slurm.connect import Machine, connected
from services.status_tracker import nodes, settings
from services.status_tracker.facility import Facility
from services.status_tracker.keeping import archive, logs
from services.status_tracker.monitoring import Listener
from services.status_tracker.observe import Observer
from services.status_tracker.rules.liveness import Liveness
from services.status_tracker.settings import Watch
from services.status_tracker.tracker import Tracker

# A fetch that waits for datagrams is over by then.
LISTENING_ENDS_S = 3.0


async def serve(context: Context) -> None:
    """Watch every machine of the site while this instance holds the lease."""
    watches = settings.watches(context.site)
    async with contextlib.AsyncExitStack() as stack:
        machines = {
            machine: await stack.enter_async_context(connected(context.site, machine, settings.SHARE_OF_THE_RATE))
            for machine in watches
        }
        bus = await stack.enter_async_context(connection.attached(context))

        async def work(fence: int) -> None:
            await _track_while_held(context, bus, watches, machines)

        await bus.hold("status_tracker.active", work, stop=context.stop, health=context.health)


async def _track_while_held(
    context: Context, bus: Bus, watches: Mapping[str, Watch], machines: Mapping[str, Machine]
) -> None:
    # Records of submissions are written before their events are published: a change of theirs is the same hint, sooner.
    wakes = {machine: asyncio.Event() for machine in watches}
    changed = asyncio.Event()
    async with contextlib.AsyncExitStack() as stack:
        submissions = await stack.enter_async_context(bus.mirror(subjects.SUBMISSIONS_BUCKET, wake=changed))
        agents = await stack.enter_async_context(bus.mirror(subjects.JOB_AGENTS_BUCKET))
        wishes = await stack.enter_async_context(bus.mirror(subjects.CONTROL_BUCKET))
        # Without the whole of both buckets, agents on record would be taken for new, and their ends for news.
        if not (await submissions.whole(context.stop) and await agents.whole(context.stop)):
            return
        liveness = {machine: Liveness(clock.now()) for machine in watches}
        async with asyncio.TaskGroup() as group:

            def go_on(name: str, *args: Any, **kwargs: Any) -> None:
                group.create_task(reconcile(name, *args, **kwargs, stop=context.stop, health=context.health))

            for machine, watch in watches.items():
                outside = machines[machine]
                observer = Observer(watch, outside.queue)
                tracker = Tracker(watch, observer, bus, submissions, agents, liveness[machine], context.health)
                go_on(
                    f"tracker {machine}",
                    tracker.step,
                    every_s=watch.pace.slow_s,
                    floor_s=watch.listing_floor_s,
                    pause_s=tracker.pause_s,
                    wake=wakes[machine],
                )
                facility = Facility(machine, outside.facility, bus)
                go_on(f"facility {machine}", facility.step, every_s=watch.facility_interval_s)
                go_on(f"nodes {machine}", nodes.NodeWatch(machine, bus, agents).step, every_s=nodes.EVERY_S)
                fetching = logs.Logs(machine, outside.files, bus, agents, wishes)
                go_on(f"logs {machine}", fetching.step, every_s=logs.EVERY_S)
            go_on("archive", archive.Archive(bus, submissions, agents).step, every_s=archive.EVERY_S)
            listening = group.create_task(Listener(bus, list(liveness.values())).run(context.stop))
            waking = group.create_task(_wake_all(changed, list(wakes.values())))
            await context.stop.wait()
            waking.cancel()
            await asyncio.wait([listening], timeout=LISTENING_ENDS_S)
            listening.cancel()


async def _wake_all(changed: asyncio.Event, wakes: list[asyncio.Event]) -> None:
    while True:
        await changed.wait()
        changed.clear()
        for wake in wakes:
            wake.set()

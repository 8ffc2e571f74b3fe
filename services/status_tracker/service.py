"""The tracker's story: list -> ask sacct about those that left -> bring records on -> write them -> publish counts."""

import asyncio
import contextlib
from collections.abc import Mapping

from libs.bus import connection
from libs.bus.connection import Bus
from libs.events import subjects
from libs.runtime.reconcile import reconcile
from libs.runtime.run import Context
from libs.slurm.connect import Machine, connected
from services.status_tracker import settings
from services.status_tracker.facility import Facility
from services.status_tracker.observe import Observer
from services.status_tracker.settings import Watch
from services.status_tracker.tracker import Tracker


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
        # Without the whole of both buckets, agents on record would be taken for new, and their ends for news.
        if not (await submissions.whole(context.stop) and await agents.whole(context.stop)):
            return
        async with asyncio.TaskGroup() as group:
            for machine, watch in watches.items():
                tracker = Tracker(
                    watch, Observer(watch, machines[machine].queue), bus, submissions, agents, context.health
                )
                group.create_task(
                    reconcile(
                        f"tracker {machine}",
                        tracker.step,
                        every_s=watch.listing_interval_s,
                        floor_s=watch.listing_floor_s,
                        wake=wakes[machine],
                        stop=context.stop,
                        health=context.health,
                    )
                )
                group.create_task(
                    reconcile(
                        f"facility {machine}",
                        Facility(machine, machines[machine].facility, bus).step,
                        every_s=watch.facility_interval_s,
                        stop=context.stop,
                        health=context.health,
                    )
                )
            waking = group.create_task(_wake_all(changed, list(wakes.values())))
            await context.stop.wait()
            waking.cancel()


async def _wake_all(changed: asyncio.Event, wakes: list[asyncio.Event]) -> None:
    while True:
        await changed.wait()
        changed.clear()
        for wake in wakes:
            wake.set()

"""The submitter's story: observe -> settle -> decide -> record the intent -> POST -> record the outcome."""

import asyncio
import contextlib
from collections.abc import Mapping

from libs.bus import connection
from libs.bus.connection import Bus
from libs.events import subjects
from libs.runtime.reconcile import reconcile
from libs.runtime.run import Context
from libs.slurm.batch_queue import BatchQueue
from libs.slurm.connect import connected
from services.slurm_submitter import settings
from services.slurm_submitter.books import Books
from services.slurm_submitter.submitter import Sources, Submitter

# Observations of one instant arrive together: one turn takes them all.
FLOOR_S = 0.02


async def serve(context: Context) -> None:
    """Submit for every CE of the site while this instance holds the lease."""
    async with contextlib.AsyncExitStack() as stack:
        machines = {
            machine: (
                await stack.enter_async_context(connected(context.site, machine, settings.SHARE_OF_THE_RATE))
            ).queue
            for machine in settings.machines(context.site)
        }
        bus = await stack.enter_async_context(connection.attached(context))

        async def work(fence: int) -> None:
            await _submit_while_held(context, bus, machines, fence)

        await bus.hold("slurm_submitter.active", work, stop=context.stop, health=context.health)


async def _submit_while_held(context: Context, bus: Bus, machines: Mapping[str, BatchQueue], fence: int) -> None:
    wake = asyncio.Event()
    site = context.site
    async with contextlib.AsyncExitStack() as stack:
        submissions = await stack.enter_async_context(bus.mirror(subjects.SUBMISSIONS_BUCKET))
        agents = await stack.enter_async_context(bus.mirror(subjects.JOB_AGENTS_BUCKET))
        sources = {
            short: Sources(
                demand=await stack.enter_async_context(bus.latest(subjects.DEMAND_OBSERVED, short, wake=wake)),
                listing=await stack.enter_async_context(bus.latest(subjects.BATCH_QUEUE_OBSERVED, short, wake=wake)),
                facility=await stack.enter_async_context(bus.latest(subjects.FACILITY_OBSERVED, ce.machine, wake=wake)),
            )
            for short, ce in site.ce.items()
        }
        # Without the whole of both buckets, agents that are on record would be submitted again.
        if not (await submissions.whole(context.stop) and await agents.whole(context.stop)):
            return
        submitter = Submitter(site, bus.by, machines, sources, Books(bus, submissions, agents, fence))
        await reconcile(
            "slurm_submitter",
            submitter.step,
            every_s=min(ce.decision_interval_s for ce in site.ce.values()),
            floor_s=FLOOR_S,
            wake=wake,
            stop=context.stop,
            health=context.health,
        )

"""The poller's story: for each CE, ask the central services -> say what it means -> publish."""

import asyncio
import contextlib

from libs.alice.client import CentralServices
from libs.alice.connection import Settings
from libs.bus import connection
from libs.bus.connection import Bus
from libs.events import subjects
from libs.runtime.reconcile import reconcile
from libs.runtime.run import Context
from services.queue_poller import decide
from services.queue_poller.poller import Poller

# Two requests, each asked once more on a new connection when the kept one was lost.
ATTEMPTS = 4


async def serve(context: Context) -> None:
    """Poll for every CE of the site while this instance holds the lease. Misconfigured when our files are unfit."""
    central = Settings.of(context.site.central_services)
    CentralServices(central).check_files()
    async with connection.attached(context) as bus:

        async def work(fence: int) -> None:
            async with asyncio.TaskGroup() as group:
                loops = [group.create_task(_poll(context, bus, central, short)) for short in context.site.ce]
                await context.stop.wait()
                # A poll only reads, so it is cut off rather than waited for.
                for loop in loops:
                    loop.cancel()

        await bus.hold("queue_poller.active", work, stop=context.stop, health=context.health)


async def _poll(context: Context, bus: Bus, central: Settings, short: str) -> None:
    """One CE at its own pace, over its own connection."""
    table = context.site.central_services
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(CentralServices(central))
        poller = Poller(
            short, context.site.ce[short], client, bus, interval_s=table.poll_interval_s, health=context.health
        )
        stack.callback(poller.leave)
        await stack.enter_async_context(bus.hinted(subjects.JOB_AGENT_CHANGED, short, poller.agent_changed))
        await reconcile(
            f"poll {short}",
            poller.step,
            every_s=decide.longest_pause_s(table.poll_interval_s),
            pause_s=poller.pause_s,
            wake=poller.wake,
            floor_s=min(table.poll_floor_s, table.poll_interval_s),
            stop=context.stop,
            health=context.health,
            step_bound_s=ATTEMPTS * (central.read_timeout_s + 2 * central.connect_timeout_s),
        )

"""The poller's story: for each CE, ask the central services -> say what it means -> publish."""

import asyncio
import contextlib

from libs.alice.client import CentralServices
from libs.alice.connection import Settings
from libs.bus import connection
from libs.runtime.reconcile import reconcile
from libs.runtime.run import Context
from services.queue_poller.poller import Poller

# Two requests, each asked once more on a new connection when the kept one was lost.
ATTEMPTS = 4


async def serve(context: Context) -> None:
    """Poll for every CE of the site, side by side, until asked to stop. Misconfigured when our files are unfit."""
    central = Settings.of(context.site.central_services)
    interval_s = context.site.central_services.poll_interval_s
    async with contextlib.AsyncExitStack() as stack:
        clients = {short: await stack.enter_async_context(CentralServices(central)) for short in context.site.ce}
        next(iter(clients.values())).check_files()
        bus = await stack.enter_async_context(connection.attached(context))
        async with asyncio.TaskGroup() as group:
            loops = [
                group.create_task(
                    reconcile(
                        f"poll {short}",
                        Poller(short, ce, clients[short], bus, interval_s=interval_s, health=context.health).step,
                        every_s=interval_s,
                        stop=context.stop,
                        health=context.health,
                        step_bound_s=ATTEMPTS * (central.read_timeout_s + 2 * central.connect_timeout_s),
                    )
                )
                for short, ce in context.site.ce.items()
            ]
            await context.stop.wait()
            # A poll only reads, so it is cut off rather than waited for.
            for loop in loops:
                loop.cancel()

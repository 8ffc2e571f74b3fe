"""The poller's story: for each CE, ask the central services -> say what it means -> publish."""

import asyncio
import contextlib

from libs.alice.client import CentralServices
from libs.alice.connection import Settings
from libs.alice.identity import CurrentIdentity
from libs.bus import connection
from libs.bus.connection import Bus
from libs.events import subjects
from libs.runtime.reconcile import reconcile
from libs.runtime.run import Context
from services.queue_poller import decide
from services.queue_poller.poller import Poller
from services.queue_poller.site_config import SiteConfigs, Sources


async def serve(context: Context) -> None:
    """Poll for every CE of the site while this instance holds the lease. Misconfigured when our files are unfit."""
    central = Settings.of(context.site.central_services)
    current = CurrentIdentity(central.identity, verify_name=central.verify_name)
    current.loaded()
    async with connection.attached(context) as bus:

        async def work(fence: int) -> None:
            await _work_while_held(context, bus, central, current)

        await bus.hold("queue_poller.active", work, stop=context.stop, health=context.health)


async def _work_while_held(context: Context, bus: Bus, central: Settings, current: CurrentIdentity) -> None:
    site = context.site
    async with contextlib.AsyncExitStack() as stack:
        facilities = {
            machine: await stack.enter_async_context(bus.latest(subjects.FACILITY_OBSERVED, machine))
            for machine in {ce.machine for ce in site.ce.values()}
        }
        sources = {
            short: Sources(
                published=await stack.enter_async_context(bus.latest(subjects.SITE_CONFIG_OBSERVED, short)),
                facility=facilities[ce.machine],
            )
            for short, ce in site.ce.items()
        }
        client = await stack.enter_async_context(CentralServices(central, current))
        interval_s = site.central_services.site_config_interval_s
        configs = SiteConfigs(site.ce, client, sources, bus, interval_s=interval_s)
        async with asyncio.TaskGroup() as group:
            loops = [group.create_task(_read_configs(context, client, configs))]
            loops += [
                group.create_task(_poll(context, bus, CentralServices(central, current), configs, short))
                for short in site.ce
            ]
            await context.stop.wait()
            # Everything here only reads, so it is cut off rather than waited for.
            for loop in loops:
                loop.cancel()


async def _read_configs(context: Context, client: CentralServices, configs: SiteConfigs) -> None:
    """The site configuration of all CEs, at a slow pace of its own."""
    # Without what was published before, an entry that vanished meanwhile would be lost.
    if not await configs.published(context.stop):
        return
    await reconcile(
        "site configuration",
        configs.step,
        every_s=decide.longest_pause_s(context.site.central_services.site_config_interval_s),
        pause_s=configs.pause_s,
        stop=context.stop,
        health=context.health,
        step_bound_s=client.bound_s(requests=4 * len(context.site.ce)),
    )


async def _poll(context: Context, bus: Bus, client: CentralServices, configs: SiteConfigs, short: str) -> None:
    """One CE at its own pace, over its own connection."""
    table = context.site.central_services
    await configs.first(short, context.stop)
    async with client, contextlib.AsyncExitStack() as stack:
        poller = Poller(short, client, configs, bus, interval_s=table.poll_interval_s, health=context.health)
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
            step_bound_s=client.bound_s(requests=2),
        )

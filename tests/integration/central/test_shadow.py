"""A CE in shadow mode: its demand is known, and the central services are asked nothing that writes there."""

import asyncio
from typing import Any

import httpx
import msgspec

from libs.bus.connection import Bus
from libs.events import subjects
from libs.events.messages import CentralLimits
from libs.runtime.site import Limits, Site
from services.queue_poller.service import serve
from tests.contract.alice.world import World
from tests.integration.central.conftest import running, until
from tests.nats_server import NatsServer


async def asked(world: World) -> list[dict[str, Any]]:
    """Every request that the central services logged."""
    async with httpx.AsyncClient(verify=False) as client:
        answer = await client.get(f"{world.ready['admin_url']}/_log", params={"limit": 1000})
    found: list[dict[str, Any]] = answer.json()
    return found


def in_shadow(site: Site, *shorts: str) -> Site:
    """The site with those CEs in shadow mode."""
    limits = Limits(shadow_max_jobs=7, shadow_max_queued=3)
    changed = {short: msgspec.structs.replace(site.ce[short], mode="shadow", limits=limits) for short in shorts}
    return msgspec.structs.replace(site, ce=site.ce | changed)


async def test_only_what_writes_nothing_is_asked(world: World, site: Site, nats_server: NatsServer, bus: Bus) -> None:
    """Limits come from the site file and say so; free slots, which write the CE's row, are asked for no CE."""
    first, _ = world.ready["ces"]
    await world.tell("grid_jobs", ce=first, count=5)
    # What the other CE is told while it runs, a lock for example, is none of ours.
    await world.tell("lock", ce=first)
    before = len(await asked(world))
    async with (
        bus.latest(subjects.DEMAND_OBSERVED, "firstce") as demand,
        running("queue_poller", serve, in_shadow(site, "firstce", "secondce"), nats_server),
    ):
        await until(lambda: demand.value and demand.value.waiting == 5)
        assert demand.value is not None
        assert demand.value.limits == CentralLimits(max_jobs=7, max_queued=3)
        assert demand.value.limits_from == "site_file"
        seen = demand.value.at
        await until(lambda: demand.value and demand.value.at > seen)
        await asyncio.sleep(0.3)
    names = {request["request"].rpartition(".")[2] for request in (await asked(world))[before:]}
    assert names == {"GetNumberWaitingJobs", "LDAPTreeRequest", "LDAPInfoRequest"}

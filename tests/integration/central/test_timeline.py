"""queue_poller through a day of the central services: everything that happens there, and what is published of it."""

import asyncio
import contextlib
import itertools
import logging
import os
import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from libs.bus.connection import Bus
from libs.events import subjects
from libs.events.messages import CentralLimits, DemandObserved, FacilityObserved, Outage, SiteConfigObserved
from libs.runtime import clock
from libs.runtime.run import Context
from libs.runtime.site import Site
from services.queue_poller.service import serve
from tests.contract.alice.replay import Authority
from tests.contract.alice.world import World
from tests.integration.central.conftest import running, until
from tests.integration.central.test_shadow import asked
from tests.nats_server import NatsServer
from tests.world.central_services.pki import Authority as WorldAuthority

WIDE = CentralLimits(max_jobs=100, max_queued=10)


@dataclass
class Day:
    """The poller runs; every demand of the first CE is kept, in the order in which it was published."""

    world: World
    site: Site
    context: Context
    bus: Bus
    demands: list[DemandObserved] = field(default_factory=list)
    configs: list[SiteConfigObserved] = field(default_factory=list)

    @property
    def now(self) -> DemandObserved:
        """The newest demand."""
        return self.demands[-1]

    async def sees(self, holds: Callable[[DemandObserved], Any]) -> None:
        """A demand published from now on has this property."""
        start = len(self.demands)
        await until(lambda: any(holds(one) for one in self.demands[start:]))

    async def fault(self, kind: str, request: str = "GetNumberFreeSlots", count: int = 1, **more: object) -> None:
        """Order a fault of the central services."""
        await self.world.tell("_faults", kind=kind, request=request, count=count, **more)

    def put(self, certificate: Path, key: Path) -> None:
        """Put a pair where the host certificate is, as a renewal does."""
        table = self.site.central_services
        for new, old in ((certificate, table.certificate), (key, table.key)):
            shutil.copy(new, old.with_suffix(".part"))
            os.replace(old.with_suffix(".part"), old)


@contextlib.asynccontextmanager
async def day(world: World, site: Site, nats: NatsServer, bus: Bus) -> AsyncIterator[Day]:
    """The poller at work, and what it publishes."""
    table = msgspec.structs.replace(site.central_services, read_timeout_s=0.5, site_config_interval_s=0.4)
    quick = msgspec.structs.replace(site, central_services=table)
    stop = asyncio.Event()
    async with running("queue_poller", serve, quick, nats) as context:
        found = Day(world, quick, context, bus)

        async def record() -> None:
            async for seen in bus.tap(stop):
                if seen.subject == subjects.DEMAND_OBSERVED.subject("firstce"):
                    found.demands.append(msgspec.json.decode(seen.body, type=DemandObserved))
                elif seen.subject == subjects.SITE_CONFIG_OBSERVED.subject("firstce"):
                    found.configs.append(msgspec.json.decode(seen.body, type=SiteConfigObserved))

        recording = asyncio.create_task(record())
        try:
            yield found
        finally:
            stop.set()
            await recording


async def what_people_do(day: Day) -> None:
    """Nothing waits, then something; limits change; a lock comes and goes; limits vanish; the host's domain, too."""
    ce = day.world.ready["ces"][0]
    await day.sees(lambda one: one.waiting == 0 and one.limits == WIDE)
    await day.world.tell("grid_jobs", ce=ce, count=5)
    await day.sees(lambda one: one.waiting == 5 and one.limits == WIDE)
    assert day.now.server == f"{day.world.ready['host']}:{day.world.ready['port']}"
    await day.world.tell("limits", ce=ce, max_jobs=7, max_queued=3)
    await day.sees(lambda one: one.waiting == 5 and one.limits == CentralLimits(max_jobs=7, max_queued=3))
    await day.world.tell("lock", ce=ce)
    await day.sees(lambda one: one.locked and one.waiting is None and one.limits is None and not one.unknown_because)
    await day.world.tell("unlock", ce=ce)
    await day.sees(lambda one: one.waiting == 5)
    await day.world.tell("limits", ce=ce, max_jobs=None, max_queued=None)
    await day.sees(lambda one: one.unknown_kind == "no_limits" and "no limits" in one.unknown_because)
    await day.world.tell("limits", ce=ce, max_jobs=100, max_queued=10)
    await day.sees(lambda one: one.waiting == 5 and one.limits == WIDE)
    domain = day.world.ready["ce_host"].partition(".")[2]
    await day.world.tell("site_config", site={"domain": "elsewhere.example"})
    await day.sees(lambda one: one.unknown_kind == "unknown_host" and "host unknown" in one.unknown_because)
    await day.world.tell("site_config", site={"domain": domain})
    await day.sees(lambda one: one.waiting == 5)


FAULTS: list[tuple[str, str, str, str]] = [
    ("null_slots", "GetNumberFreeSlots", "database_away", "no database connection"),
    ("null_slots", "GetNumberWaitingJobs", "database_away", "this.match"),
    ("not_updated", "GetNumberFreeSlots", "host_not_updated", "could not be updated"),
    ("server_exception", "GetNumberFreeSlots", "server_exception", "no such table"),
    ("close_without_reply", "GetNumberWaitingJobs", "closed_without_reply", "without a reply"),
    ("close_mid_object", "GetNumberWaitingJobs", "cut_off", "in the middle of a reply"),
    ("silence", "GetNumberFreeSlots", "unreachable", "did not answer"),
]


def is_unknown(kind: str, words: str) -> Callable[[DemandObserved], bool]:
    """Whether a demand is unknown for that reason."""
    return lambda one: one.unknown_kind == kind and words in one.unknown_because


async def what_machines_do(day: Day) -> None:
    """Each fault is published once as itself and never as a number, and the next poll is right again."""
    for kind, request, name, words in FAULTS:
        # A connection that is lost is tried once more within the same poll.
        count = 2 if kind.startswith("close") else 1
        more = {"text": "no such table"} if kind == "server_exception" else {}
        await day.fault(kind, request, count * len(day.site.ce), **more)
        await day.sees(is_unknown(name, words))
        await day.sees(lambda one: one.waiting == 5)
        async with httpx.AsyncClient() as client:
            await client.delete(f"{day.world.ready['admin_url']}/_faults")


async def what_the_site_says(day: Day) -> None:
    """A shorter time to live is asked with; a broken one and a vanished entry change nothing and are told."""
    ces = {"firstce": {"ttl": "3600"}}
    await day.world.tell("site_config", ces=ces)
    await day.sees(lambda one: one.asked_ttl_s == 3600)
    await until(lambda: "ttl_s: 87000 -> 3600 (ce_ttl)" in day.configs[-1].changes)
    await day.world.tell("site_config", ces={"firstce": {"ttl": "soon"}})
    await until(lambda: any("ce_ttl 'soon' is no number" in problem for problem in day.configs[-1].problems))
    kept = day.configs[-1].attributes
    await day.world.tell("site_config", ces={"firstce": None})
    await until(lambda: any("the ce entry vanished" in problem for problem in day.configs[-1].problems))
    assert (day.configs[-1].attributes, day.now.asked_ttl_s) == (kept, 3600)
    await day.world.tell("site_config", ces={"firstce": {"ttl": "7200", "maxjobs": "100", "maxqueuedjobs": "10"}})
    await day.sees(lambda one: one.asked_ttl_s == 7200)
    await until(lambda: not day.configs[-1].problems)


async def what_the_facility_plans(day: Day) -> None:
    """An outage in half an hour leaves grid jobs so much time; called off, the whole."""
    now = clock.now()
    outage = Outage(name="works", start_at=now + timedelta(minutes=30), end_at=now + timedelta(hours=9))
    told = FacilityObserved(
        at=now, by="status_tracker/1", machine="perlmutter", status="active", planned_outages=[outage]
    )
    await day.bus.publish(subjects.FACILITY_OBSERVED, "perlmutter", told)
    await day.sees(lambda one: one.asked_ttl_s is not None and 1700 < one.asked_ttl_s <= 1800)
    off = msgspec.structs.replace(told, at=clock.now(), planned_outages=[])
    await day.bus.publish(subjects.FACILITY_OBSERVED, "perlmutter", off)
    await day.sees(lambda one: one.asked_ttl_s == 7200)


async def what_certificates_do(day: Day, folder: Path) -> None:
    """Half a pair changes nothing, a renewed one is shown at once, a foreign and an unknown one are named."""
    world, new_dn = day.world, "/C=CH/O=JAliEn/CN=renewed.localdomain"
    renewed = WorldAuthority(world.state / "pki").client("renewed", "renewed.localdomain")
    await world.tell(
        "site_config", accounts={"aliprod": {"subject": [dn(world), "/C=CH/O=JAliEn/CN=renewed.localdomain"]}}
    )
    day.put(renewed.cert_path, day.site.central_services.key)
    await day.sees(lambda one: one.waiting == 5)
    assert {one["dn"] for one in (await asked(world))[-6:]} == {dn(world)}
    day.put(renewed.cert_path, renewed.key_path)
    await day.sees(lambda one: one.waiting == 5)
    await until_async(lambda: who_asked(world, new_dn))
    day.put(*Authority(folder, "foreign").issue("client"))
    await day.sees(lambda one: one.unknown_kind == "certificate_refused" and "unknown ca" in one.unknown_because)
    day.put(Path(world.ready["unknown_cert"]), Path(world.ready["unknown_key"]))
    await day.sees(lambda one: one.unknown_kind == "unknown_subject" and "LDAP subject" in one.unknown_because)
    day.put(Path(world.ready["cert"]), Path(world.ready["key"]))
    await day.sees(lambda one: one.waiting == 5)


async def what_a_restart_does(day: Day) -> None:
    """Away is unknown and not ready, asked again and again; back is known by itself, and ready."""
    await day.world.stop()
    await day.sees(lambda one: one.unknown_kind == "unreachable" and "refused the connection" in one.unknown_because)
    seen = len(day.demands)
    await until(lambda: len(day.demands) > seen + 1)
    assert "central services for firstce" in day.context.health.not_ready()
    await day.world.start()
    await day.sees(lambda one: one.waiting == 5)
    await until(lambda: day.context.health.not_ready() == {})


def dn(world: World) -> str:
    """The host certificate's subject as the central services write it."""
    return f"/C=CH/O=JAliEn/CN={world.ready['ce_host']}"


async def who_asked(world: World, subject: str) -> bool:
    """Whether the last requests came from that certificate."""
    return {one["dn"] for one in (await asked(world))[-4:]} == {subject}


async def until_async(holds: Callable[[], Any], timeout_s: float = 20.0) -> None:
    """Wait until something that must be asked for holds."""
    async with asyncio.timeout(timeout_s):
        while not await holds():
            await asyncio.sleep(0.05)


async def test_a_day_of_the_central_services(
    world: World, site: Site, nats_server: NatsServer, bus: Bus, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Through all of it the poller publishes each state under its own name, and only numbers that it was told."""
    caplog.set_level(logging.INFO, "services.queue_poller")
    async with day(world, site, nats_server, bus) as found:
        await what_people_do(found)
        await what_machines_do(found)
        await what_the_site_says(found)
        await what_the_facility_plans(found)
        await what_certificates_do(found, tmp_path)
        await what_a_restart_does(found)
    for one in found.demands:
        assert [one.waiting is not None, one.locked, bool(one.unknown_because)].count(True) == 1, one
        assert one.waiting in (None, 0, 5)
        assert bool(one.unknown_kind) == bool(one.unknown_because)
    before = "ALICE::JTestSite::firstce: "
    told = [text.removeprefix(before) for one in caplog.records if (text := one.getMessage()).startswith(before)]
    states = [text for text in told if text.startswith(("open", "demand unknown", "centrally locked"))]
    assert len(states) > 20
    assert all(first != second for first, second in itertools.pairwise(states))


async def test_what_was_read_outlives_the_poller(world: World, site: Site, nats_server: NatsServer, bus: Bus) -> None:
    """A new instance goes on with the site configuration of the last one while the directory's entry is gone."""
    async with day(world, site, nats_server, bus) as first:
        await until(lambda: first.configs and first.configs[-1].ttl_s == 87000)
        await world.tell("site_config", ces={"firstce": None})
    async with day(world, site, nats_server, bus) as second:
        await until(lambda: second.configs and second.configs[-1].problems)
        assert second.configs[0].ttl_s == 87000
        assert second.configs[0].by == "queue_poller/1"


async def test_before_2024_the_site_file_stands_alone(
    tmp_path: Path, site: Site, nats_server: NatsServer, bus: Bus
) -> None:
    """Servers that close on the question cost no poll anything; the reason is published."""
    older = World(tmp_path / "older", ("--ce", "firstce", "--ce", "secondce"))
    await older.start()
    table = msgspec.structs.replace(
        site.central_services,
        port=older.ready["port"],
        ca=Path(older.ready["ca"]),
        certificate=Path(older.ready["cert"]),
        key=Path(older.ready["key"]),
    )
    async with day(older, msgspec.structs.replace(site, central_services=table), nats_server, bus) as found:
        await until(lambda: found.configs and "releases before 2024" in found.configs[-1].unknown_because)
        await found.sees(lambda one: one.waiting == 0 and one.asked_ttl_s == 82800)
        assert found.configs[-1].origins == {}
        assert not any(one.unknown_because for one in found.demands)
    await older.stop()

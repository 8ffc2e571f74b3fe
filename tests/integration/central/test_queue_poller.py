"""queue_poller against a real nats-server and the world's central services."""

import asyncio
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from libs.bus.connection import Bus, Latest
from libs.events import subjects
from libs.events.messages import CentralLimits, DemandObserved
from libs.runtime.site import Site
from services.queue_poller.service import serve
from tests.contract.alice.world import World
from tests.integration.central.conftest import running, tables, toml, until
from tests.nats_server import NatsServer


def known(latest: Latest[Any]) -> DemandObserved:
    """The newest demand, once there is one."""
    assert isinstance(latest.value, DemandObserved)
    return latest.value


async def test_demand_through_a_day_of_the_central_services(
    world: World, site: Site, nats_server: NatsServer, bus: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    """Known, more, locked, open, away, back: each state is published, unknown never as zero, and logged once."""
    first, second = world.ready["ces"]
    await world.tell("grid_jobs", ce=first, count=5)
    caplog.set_level(logging.INFO, "services.queue_poller")
    async with (
        bus.latest(subjects.DEMAND_OBSERVED, "firstce") as one,
        bus.latest(subjects.DEMAND_OBSERVED, "secondce") as two,
        running("queue_poller", serve, site, nats_server) as context,
    ):
        await until(lambda: one.value and known(one).waiting == 5 and two.value and known(two).waiting == 0)
        assert known(one).limits == CentralLimits(max_jobs=100, max_queued=10)
        assert (known(one).ce, known(one).by) == ("firstce", "queue_poller/1")
        assert context.health.not_ready() == {}
        await world.tell("limits", ce=first, max_jobs=7, max_queued=3)
        await until(lambda: known(one).limits == CentralLimits(max_jobs=7, max_queued=3))
        await world.tell("lock", ce=first)
        await until(lambda: known(one).locked)
        assert (known(one).waiting, known(one).limits, known(one).unknown_because) == (None, None, "")
        assert not known(two).locked
        await world.tell("unlock", ce=first)
        await until(lambda: known(one).waiting == 5)
        await world.stop()
        await until(lambda: known(one).unknown_because and known(two).unknown_because)
        seen = known(one).at
        await until(lambda: known(one).at > seen)
        assert (known(one).waiting, known(one).limits) == (None, None)
        assert "central services for firstce" in context.health.not_ready()
        await world.start()
        await world.tell("grid_jobs", ce=second, count=2)
        await until(lambda: known(one).waiting == 5 and known(two).waiting == 2)
    lines = [record.getMessage() for record in caplog.records if record.getMessage().startswith(f"{first}: ")]
    assert [line.split(": ", 2)[1].split(",")[0].split(" (")[0] for line in lines] == [
        "open",
        "centrally locked",
        "open",
        "demand unknown",
        "open",
    ]


async def test_a_host_that_is_unknown_there_gives_unknown_demand(
    world: World, site: Site, nats_server: NatsServer, bus: Bus
) -> None:
    """A code without numbers is published with its meaning."""
    ces = {short: msgspec.structs.replace(ce, host="ghost.nowhere") for short, ce in site.ce.items()}
    async with (
        bus.latest(subjects.DEMAND_OBSERVED, "firstce") as demand,
        running("queue_poller", serve, msgspec.structs.replace(site, ce=ces), nats_server),
    ):
        await until(lambda: demand.value)
        assert "host unknown" in known(demand).unknown_because
        assert known(demand).waiting is None


async def test_nats_away_and_back(world: World, site: Site, nats_server: NatsServer, bus: Bus) -> None:
    """The poller outlives the bus and publishes again by itself."""
    async with (
        bus.latest(subjects.DEMAND_OBSERVED, "firstce") as demand,
        running("queue_poller", serve, site, nats_server),
    ):
        await until(lambda: demand.value)
        nats_server.kill()
        nats_server.start()
        seen = known(demand).at
        await until(lambda: known(demand).at > seen, 40)


@pytest.mark.parametrize(
    ("setting", "words"), [("key", "host key"), ("certificate", "host certificate"), ("ca", "trust anchors")]
)
async def test_unfit_files_stop_the_start_with_their_own_exit_code(
    world: World, tmp_path: Path, setting: str, words: str
) -> None:
    """A missing secret ends the process with 78 and one clear line, before NATS is asked."""
    found = tables(world, tmp_path)
    found["central_services"][setting] = str(tmp_path / "nowhere.pem")
    config = tmp_path / "site.toml"
    config.write_text(toml(found))
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "services.queue_poller", "--config", str(config), "--log-format", "console"],
        env=os.environ | {"NACRE_HTTP_LISTEN": "127.0.0.1:0"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 78, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "ERROR" in line]
    assert words in line
    assert "nowhere.pem" in line

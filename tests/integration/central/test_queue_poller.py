"""queue_poller against a real nats-server and the world's central services."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from libs.bus.connection import Bus, Latest
from libs.events import subjects
from libs.events.messages import DemandObserved
from libs.runtime.site import Site
from services.queue_poller.service import serve
from tests.contract.alice.world import World
from tests.integration.central.conftest import running, tables, toml, until
from tests.nats_server import NatsServer


def known(latest: Latest[Any]) -> DemandObserved:
    """The newest demand, once there is one."""
    assert isinstance(latest.value, DemandObserved)
    return latest.value


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

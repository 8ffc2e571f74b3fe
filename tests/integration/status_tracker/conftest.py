"""Fixtures of the tracker's tests: the Superfacility API over the model Slurm, and a house around it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from libs.bus.connection import Bus
from tests.integration.status_tracker.house import House, standing
from tests.nats_server import NatsServer
from tests.world.processes import start
from tests.world.slurm.cluster import missing_programs


@pytest.fixture
def model(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """The API over a fresh model Slurm with eight nodes of four cores."""
    state = str(tmp_path / "facility")
    with start(
        "tests.world.superfacility", "--state", state, "--slurm", "model", "--nodes", "8", "--cpus", "4"
    ) as (_, ready):  # fmt: skip
        yield ready


@pytest.fixture
async def house(tmp_path: Path, model: dict[str, Any], bus: Bus, nats_server: NatsServer) -> AsyncIterator[House]:
    """A site on the model."""
    async with standing(tmp_path, model, bus, nats_server.url) as house:
        yield house


@pytest.fixture
def real(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The API over a real Slurm with two nodes; skips where none is installed."""
    if missing := missing_programs():
        pytest.skip(f"no real Slurm here (missing: {' '.join(missing)})")
    state = str(tmp_path_factory.mktemp("slurm"))
    with start("tests.world.slurm", "--state", state, "--nodes", "2") as (_, slurm):
        arguments = ["--state", str(tmp_path / "facility"), "--slurm", "real"]
        arguments += ["--user", slurm["user"], "--account", slurm["account"]]
        with start("tests.world.superfacility", *arguments, env=slurm["environment"]) as (_, ready):
            yield ready


@pytest.fixture
async def real_house(
    tmp_path: Path, real: dict[str, Any], bus: Bus, nats_server: NatsServer
) -> AsyncIterator[House]:  # fmt: skip
    """A site on the real Slurm."""
    async with standing(tmp_path, real, bus, nats_server.url, settle_time_s=30, listing_lag_s=5) as house:
        yield house

"""Fixtures of the tracker's tests: the Superfacility API over the model Slurm, and a house around it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from libs.bus.connection import Bus
from tests.integration.status_tracker.house import House, standing
from tests.nats_server import NatsServer
from tests.world.processes import start


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

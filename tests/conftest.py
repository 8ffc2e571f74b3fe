"""Fixtures that every kind of test may use: a real nats-server, and the bus on it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from libs.bus import connection, schema
from libs.bus.connection import Bus
from libs.runtime.health import Health
from tests.nats_server import NatsServer

# What takes longest begins first, so that no worker is left alone with it in the end; those that wait for daemons and
# clocks alternate, so that not everything starts at once.
LONGEST = (
    "tests/e2e/test_timelines.py",
    "tests/contract/test_sfapi_client.py",
    "tests/e2e/test_journey.py",
    "tests/contract/test_world_slurm.py",
    "tests/contract/test_model_against_real.py",
    "tests/integration/status_tracker/test_tracker.py",
    "tests/contract/test_world_model.py",
    "tests/e2e/test_bad_starts.py",
    "tests/contract/test_world_superfacility.py",
    "tests/integration/monitoring_relay/test_relay.py",
    "tests/contract/test_invariants.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A file's tests stay on one worker, so that they share what they start; unless a test names a group of its own.

    What is tried over a real Slurm and over the model is two such groups.
    """
    rank = {path: place for place, path in enumerate(LONGEST)}
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            case = getattr(item, "callspec", None)
            slurm = case.params.get("facility", "") if case else ""
            item.add_marker(pytest.mark.xdist_group(f"{item.nodeid.partition('::')[0]} {slurm}"))
    items.sort(key=lambda item: rank.get(item.nodeid.partition("::")[0], len(rank)))


@pytest.fixture
def nats_server(tmp_path: Path) -> Iterator[NatsServer]:
    """A fresh, empty nats-server."""
    server = NatsServer(tmp_path / "nats")
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def bus(nats_server: NatsServer) -> AsyncIterator[Bus]:
    """A connection to a fresh nats-server with every stream and bucket of the table."""
    async with connection.connected(nats_server.url, "tests/1", Health()) as bus:
        await schema.initialise(bus.js, 1)
        yield bus

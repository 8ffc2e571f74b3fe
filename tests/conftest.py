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


# Before xdist's own hook, which reads the groups.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that share what they start stay on one worker, those over a real Slurm apart from those over the model.

    Such are a file's tests with a fixture of more than a function; a file of unit tests stays together for its speed;
    any other test runs where there is room, unless it names a group of its own.
    """
    rank = {path: place for place, path in enumerate(LONGEST)}
    for item in items:
        path = item.nodeid.partition("::")[0]
        if item.get_closest_marker("xdist_group") is None and (path.startswith("tests/unit/") or _shares(item)):
            case = getattr(item, "callspec", None)
            slurm = case.params.get("facility", "") if case else ""
            item.add_marker(pytest.mark.xdist_group(f"{path} {slurm}"))
    items.sort(key=lambda item: rank.get(item.nodeid.partition("::")[0], len(rank)))


def _shares(item: pytest.Item) -> bool:
    """True when a fixture of ours outlives one test."""
    if not isinstance(item, pytest.Function):
        return False
    fixtures = [fixture for found in item._fixtureinfo.name2fixturedefs.values() for fixture in found]
    return any(fixture.scope != "function" and fixture.baseid.startswith("tests") for fixture in fixtures)


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

"""Fixtures that every kind of test may use: a real nats-server, and the bus on it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from libs.bus import connection, schema
from libs.bus.connection import Bus
from libs.runtime.health import Health
from tests.nats_server import NatsServer


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A file's tests stay on one worker, so that they share what they start; unless a test names a group of its own."""
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))


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

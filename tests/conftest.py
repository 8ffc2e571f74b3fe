"""Fixtures that every kind of test may use: a real nats-server, and the bus on it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from libs.bus import connection, schema
from libs.bus.connection import Bus
from libs.runtime.health import Health
from tests import schedule
from tests.nats_server import NatsServer


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first."""
    items.sort(key=lambda item: schedule.rank(item.nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A worker gets one group of tests after the other."""
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]  # only where xdist is in use

    scheduler = LoadScopeScheduling(config, log)
    scheduler._split_scope = schedule.group
    return scheduler


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

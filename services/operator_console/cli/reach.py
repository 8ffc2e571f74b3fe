"""How a command reaches the house: the options, one connection, and what it prints."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import click
import msgspec

from libs.bus import connection
from libs.bus.connection import Bus
from libs.bus.login import Login
from libs.runtime import site
from libs.runtime.health import Health
from services.operator_console.from_bus import BusReader
from services.operator_console.reader import Reader

PATIENCE_S = 4.0
T = TypeVar("T")

url_option = click.option("--url", help="NATS URL (default: NACRE_NATS_URL, else nats://127.0.0.1:4222)")
json_option = click.option("--json", "as_json", is_flag=True, help="JSON instead of a table")


@contextlib.asynccontextmanager
async def bus_at(url: str | None) -> AsyncIterator[Bus]:
    """The bus for as long as it is needed. Unreachable or Refused when NATS is away or does not let us in."""
    # nats-py's complaints while it tries are summed up in the error.
    logging.basicConfig(level=logging.CRITICAL)
    environment = site.environment()
    address = url or environment.nats_url or site.Bus().url
    login = Login.of(environment)
    async with connection.connected(
        address, "operator_console/cli", Health(), login=login, patience_s=PATIENCE_S
    ) as bus:
        yield bus


@contextlib.asynccontextmanager
async def reached(url: str | None) -> AsyncIterator[Reader]:
    """A reader for as long as it is needed; raises as `bus_at`."""
    async with bus_at(url) as bus:
        yield BusReader(bus)


def asked(url: str | None, question: Callable[[Reader], Awaitable[T]]) -> T:
    """The answer to one question."""

    async def ask() -> T:
        async with reached(url) as reader:
            return await question(reader)

    return asyncio.run(ask())


def print_json(content: Any) -> None:
    """One JSON document, indented for people."""
    click.echo(msgspec.json.format(msgspec.json.encode(content), indent=1))

"""`nacre bus`: create and migrate the streams and buckets."""

import asyncio
import logging

import click
from rich.console import Console
from rich.table import Table

from libs.bus import connection, schema
from libs.runtime import site
from libs.runtime.health import Health


@click.group()
def bus() -> None:
    """Streams and buckets on NATS."""


@bus.command()
@click.option("--url", help="NATS URL (default: NACRE_NATS_URL, else the site file's bus.url)")
@click.option("--config", type=click.Path(), help="site file (default: NACRE_CONFIG); for bus.url and bus.replicas")
@click.option("--replicas", type=click.IntRange(1, 5), help="copies of each stream (default: the site file's, else 1)")
def init(url: str | None, config: str | None, replicas: int | None) -> None:
    """Create what is missing and migrate what differs from the table. Deletes nothing; safe to run again."""
    logging.basicConfig(level=logging.ERROR, format="nacre: %(message)s")
    environment = site.environment()
    path = config or environment.config
    settings = site.load(path).bus if path else site.Bus()
    changes = asyncio.run(_init(url or environment.nats_url or settings.url, settings, replicas or settings.replicas))
    table = Table("stream or bucket", "action", "settings changed", box=None)
    for change in changes:
        table.add_row(change.name, change.action, change.detail)
    Console().print(table)


async def _init(url: str, settings: site.Bus, replicas: int) -> list[schema.Change]:
    async with connection.connected(
        url, "operator_console/init", Health(), patience_s=settings.connect_patience_s
    ) as bus:
        return await schema.initialise(bus.js, replicas)

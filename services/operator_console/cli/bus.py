"""`nacre bus`: create and migrate the streams and buckets."""

import asyncio
import logging
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from libs.bus import accounts, connection, schema
from libs.bus.login import Login
from libs.runtime import clock, site
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
    changes = asyncio.run(
        _init(
            url or environment.nats_url or settings.url, Login.of(environment), settings, replicas or settings.replicas
        )
    )
    table = Table("stream or bucket", "action", "settings changed", box=None)
    for change in changes:
        table.add_row(change.name, change.action, change.detail)
    Console().print(table)


async def _init(url: str, login: Login, settings: site.Bus, replicas: int) -> list[schema.Change]:
    async with connection.connected(
        url, "operator_console/init", Health(), login=login, patience_s=settings.connect_patience_s
    ) as bus:
        return await schema.initialise(bus.js, replicas)


@bus.command("accounts")
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--host", "hosts", multiple=True, default=["localhost"], show_default=True, help="names the server has")
@click.option("--rotate", metavar="USER", help="give a user a new key; the old one is let in until --retire")
@click.option("--retire", metavar="USER", help="let the key that --rotate replaced in no more")
def accounts_command(directory: Path, hosts: tuple[str, ...], rotate: str | None, retire: str | None) -> None:
    """Make the bus's private CA, certificate, keys and permissions below DIRECTORY; safe to run again.

    Then let nats-server read them anew (SIGHUP). users/NAME.nk is NAME's secret: NACRE_NATS_NKEY_FILE.
    """
    if rotate:
        written = accounts.rotate(directory, rotate)
    elif retire:
        written = accounts.retire(directory, retire)
    else:
        written = accounts.make(directory, hosts, clock.now())
    for path in written or ["nothing to do"]:
        click.echo(path)

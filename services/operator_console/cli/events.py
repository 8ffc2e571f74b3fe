"""`nacre events`: what happened, and what happens."""

import asyncio
from datetime import timedelta

import click
import msgspec
from rich.console import Console

from libs.events.rows import PREFIX
from libs.runtime import clock
from services.operator_console.cli.reach import reached, url_option
from services.operator_console.shown import printable
from services.operator_console.timeline import Recorded

ABOUT = ("why", "text", "job_id", "submit", "agents", "waiting", "queued", "running", "status", "unknown_because")


class _Body(msgspec.Struct):
    at: str = ""
    by: str = ""


@click.command()
@url_option
@click.option("--json", "as_json", is_flag=True, help="JSON lines instead of text")
@click.option("--hours", type=click.FloatRange(0, 720), default=1.0, show_default=True, help="how far back to begin")
@click.option("--follow", is_flag=True, help="go on with what is published, until Ctrl-C")
def events(url: str | None, as_json: bool, hours: float, follow: bool) -> None:
    """Messages of the bus, but for datagrams: those of the logs since some time, then, with --follow, every one."""
    asyncio.run(_print(url, as_json, hours, follow))


async def _print(url: str | None, as_json: bool, hours: float, follow: bool) -> None:
    console = Console()
    since = clock.now() - timedelta(hours=hours)
    async with reached(url) as reader:
        async for one in reader.events(since, follow=follow):
            if as_json:
                click.echo(msgspec.json.encode(one))
            else:
                console.print(line(one), highlight=False, markup=False, soft_wrap=True)


def line(one: Recorded) -> str:
    """One message as one line: when, where, who, and the fields that tell most. Pure."""
    try:
        head = msgspec.json.decode(one.body, type=_Body)
        body = msgspec.json.decode(one.body, type=dict[str, msgspec.Raw])
    except msgspec.MsgspecError:
        return f"{one.subject} (not readable)"
    record = msgspec.json.decode(body["record"], type=dict[str, msgspec.Raw]) if "record" in body else {}
    words = [f"{name}={_text(body[name])}" for name in ABOUT if name in body and _text(body[name]) not in ("", "null")]
    words += [f"{name}={_text(record[name])}" for name in ("agent", "state", "verdict") if name in record]
    return printable(f"{head.at[:19]} {one.subject.removeprefix(f'{PREFIX}.')} {head.by} {' '.join(words)}".rstrip())


def _text(raw: msgspec.Raw) -> str:
    return bytes(raw).decode(errors="replace").strip('"')

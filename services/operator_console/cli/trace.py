"""`nacre trace`: one job agent from demand to verdict."""

import asyncio
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.table import Table

from libs.bus import connection
from libs.bus.login import Login
from libs.events import subjects
from libs.events.rows import PREFIX
from libs.runtime import site
from libs.runtime.errors import Malformed, Refused
from libs.runtime.health import Health
from services.operator_console.cli.timeline import Recorded, Timeline, timeline

BEFORE = timedelta(minutes=10)


@click.command()
@click.argument("agent")
@click.option("--journal", type=click.Path(path_type=Path), help="a recorded journal (JSON lines) instead of NATS")
@click.option("--url", help="NATS URL (default: NACRE_NATS_URL, else nats://127.0.0.1:4222)")
@click.option("--json", "as_json", is_flag=True, help="one JSON object instead of a table")
def trace(agent: str, journal: Path | None, url: str | None, as_json: bool) -> None:
    """What happened to AGENT (<submission>.<array index>): demand, decision, submission, batch job, verdict."""
    recorded = read_journal(journal) if journal is not None else asyncio.run(_from_bus(url, agent))
    found = timeline(recorded, agent)
    if not found.steps:
        raise Refused(f"nothing names {agent}; agents are <submission>.<array index>, see the bucket job_agents")
    if as_json:
        click.echo(msgspec.json.encode(found))
    else:
        Console().print(_table(found))


def read_journal(path: Path) -> list[Recorded]:
    """A recorded journal: one {"subject", "trace", "body"} a line."""
    try:
        return [msgspec.json.decode(line, type=Recorded) for line in path.read_bytes().splitlines()]
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Malformed(f"journal {path} cannot be read: {error}") from error


async def _from_bus(url: str | None, agent: str) -> list[Recorded]:
    """The logs since shortly before the submission was made, whose name holds that instant."""
    stamp = re.search(r"-(\d{8}t\d{6})-", agent)
    if stamp is None:
        raise Refused(f"{agent} is no job agent: its name is nacre-<ce>-<instant>-<random>.<array index>")
    since = datetime.strptime(stamp[1], "%Y%m%dt%H%M%S").replace(tzinfo=UTC) - BEFORE
    recorded = []
    environment = site.environment()
    url = url or environment.nats_url or site.Bus().url
    login = Login.of(environment)
    async with connection.connected(url, "operator_console/trace", Health(), login=login, patience_s=5.0) as bus:
        for stream in (subjects.SUBMISSIONS, subjects.JOB_AGENTS):
            async for seen in bus.history(stream, f"{PREFIX}.>", since):
                recorded.append(Recorded(subject=seen.subject, trace=seen.trace, body=msgspec.Raw(seen.body)))
    return recorded


def _table(found: Timeline) -> Table:
    table = Table(
        "at (UTC)", "after", "service", "event", "what", title=found.agent, caption=f"trace {found.trace or '-'}"
    )
    begin = found.steps[0].at
    for step in found.steps:
        after = f"+{(step.at - begin).total_seconds():.3f} s"
        table.add_row(f"{step.at:%H:%M:%S.%f}"[:-3], after, step.service, step.event, step.text)
    return table

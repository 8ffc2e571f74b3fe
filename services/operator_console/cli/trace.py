"""`nacre trace`: one job agent from demand to verdict."""

from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.table import Table

from libs.runtime.errors import Malformed, Refused
from services.operator_console.cli.reach import asked, json_option, print_json, url_option
from services.operator_console.timeline import Recorded, Timeline, timeline


@click.command()
@click.argument("agent")
@click.option("--journal", type=click.Path(path_type=Path), help="a recorded journal (JSON lines) instead of NATS")
@url_option
@json_option
def trace(agent: str, journal: Path | None, url: str | None, as_json: bool) -> None:
    """What happened to AGENT (<submission>.<array index>): demand, decision, submission, batch job, verdict."""
    recorded = read_journal(journal) if journal is not None else asked(url, lambda reader: reader.story(agent))
    found = timeline(recorded, agent)
    if not found.steps:
        raise Refused(f"nothing names {agent}; agents are <submission>.<array index>, see the bucket job_agents")
    if as_json:
        print_json(found)
    else:
        Console().print(_table(found))


def read_journal(path: Path) -> list[Recorded]:
    """A recorded journal: one {"subject", "trace", "body"} a line."""
    try:
        return [msgspec.json.decode(line, type=Recorded) for line in path.read_bytes().splitlines()]
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Malformed(f"journal {path} cannot be read: {error}") from error


def _table(found: Timeline) -> Table:
    table = Table(
        "at (UTC)", "after", "service", "event", "what", title=found.agent, caption=f"trace {found.trace or '-'}"
    )
    begin = found.steps[0].at
    for step in found.steps:
        after = f"+{(step.at - begin).total_seconds():.3f} s"
        table.add_row(f"{step.at:%H:%M:%S.%f}"[:-3], after, step.service, step.event, step.text)
    return table

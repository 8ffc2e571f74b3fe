"""`nacre agents`: list and show job agents, and export them."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import get_args

import click
from rich.console import Console
from rich.table import Table

from libs.events.messages import AgentState, JobAgent
from libs.runtime import clock
from libs.runtime.errors import Refused
from services.operator_console.cli.lines import form_option, written
from services.operator_console.cli.reach import asked, json_option, print_json, reached, url_option
from services.operator_console.reader import AGENTS_AT_MOST, AgentQuery
from services.operator_console.shown import age, lasting, printable


@click.group()
def agents() -> None:
    """Job agents: every one that is active, or ended lately."""


@agents.command("list")
@url_option
@json_option
@click.option("--ce", default="", help="only this CE's")
@click.option("--state", type=click.Choice(get_args(AgentState)), help="only in this state")
@click.option("--node", default="", help="only on this node")
@click.option("--search", default="", help="a piece of the agent's name, Slurm id, node or verdict")
@click.option("--hours", type=click.FloatRange(0, 4320), help="only those submitted in the last hours")
@click.option("--limit", type=click.IntRange(1, AGENTS_AT_MOST), default=50, show_default=True, help="at most so many")
def list_agents(
    url: str | None, as_json: bool, ce: str, state: str | None, node: str, search: str, hours: float | None, limit: int
) -> None:
    """The newest first."""
    since = None if hours is None else clock.now() - timedelta(hours=hours)
    query = AgentQuery(ce=ce, state=state or "", node=node, search=search, since=since, limit=limit)
    found = asked(url, lambda reader: reader.agents(query))
    if as_json:
        print_json(found)
        return
    now = clock.now()
    table = Table("agent", "Slurm job", "state", "node", "submitted", "ran", "verdict", box=None)
    for one in found:
        ran = "" if one.start_at is None else lasting(((one.end_at or now) - one.start_at).total_seconds())
        submitted = f"{age(one.submit_at or one.first_listed_at, now)} ago"
        table.add_row(one.agent, one.job_id, one.state, one.nodes, submitted, ran, printable(one.verdict, 80))
    Console().print(table if found else "no job agent matches")


@agents.command()
@click.argument("agent")
@url_option
@json_option
def show(agent: str, url: str | None, as_json: bool) -> None:
    """Everything that is on record about AGENT; `nacre trace AGENT` tells its story."""
    record = asked(url, lambda reader: reader.agent(agent))
    if record is None:
        raise Refused(f"no job agent {agent}; `nacre agents list --search {agent[:40]}` looks for it")
    if as_json:
        print_json(record)
        return
    table = Table(show_header=False, box=None)
    for name in record.__struct_fields__:
        content = getattr(record, name)
        if content not in (None, "", {}, []):
            table.add_row(name.replace("_", " "), printable(str(content)))
    Console().print(table)


@agents.command()
@url_option
@form_option
@click.option("--ce", default="", help="only this CE's")
def export(url: str | None, form: str, ce: str) -> None:
    """All records to standard output; `nacre history` has those that left."""

    async def records() -> AsyncIterator[JobAgent]:
        async with reached(url) as reader:
            for one in await reader.agents(AgentQuery(ce=ce, limit=AGENTS_AT_MOST)):
                yield one

    asyncio.run(written(records(), form, JobAgent))

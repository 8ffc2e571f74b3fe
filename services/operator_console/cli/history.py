"""`nacre history`: what stays of finished job agents, as CSV or JSON lines."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime

import click
import msgspec

from libs.events import subjects
from libs.events.messages import AgentDay, Finished
from services.operator_console.cli.lines import form_option, written
from services.operator_console.cli.reach import bus_at, url_option

SINCE = click.option("--since", metavar="DAY", type=click.DateTime(["%Y-%m-%d"]), help="the first day of ending (UTC)")
UNTIL = click.option("--until", metavar="DAY", type=click.DateTime(["%Y-%m-%d"]), help="the last day of ending (UTC)")
CE = click.option("--ce", default="", help="only this CE's (its short name)")


class DayLine(msgspec.Struct, frozen=True, kw_only=True):
    """A day of one CE, its endings as columns of their own; `efficiency` is None where nothing was heard."""

    ce: str
    day: str
    agents: int
    node_hours: float
    efficiency: float | None
    grid_jobs: int
    endings: dict[str, int]


class AgentLine(msgspec.Struct, frozen=True, kw_only=True):
    """A finished agent; instants in UTC."""

    ce: str
    agent: str
    job_id: str
    node: str
    submit_at: datetime | None
    start_at: datetime | None
    end_at: datetime | None
    ending: str
    exit_code: int | None
    run: int
    node_hours: float | None
    working_hours: float | None
    grid_jobs_total: int
    grid_jobs: list[int]


@click.group()
def history() -> None:
    """Finished job agents: daily summaries, which stay, and the map of who ran where, kept for 180 days."""


@history.command()
@url_option
@form_option
@CE
@SINCE
@UNTIL
def days(url: str | None, form: str, ce: str, since: datetime | None, until: datetime | None) -> None:
    """How many agents of a day ended how, and what they took."""

    async def lines() -> AsyncIterator[DayLine]:
        async with bus_at(url) as bus:
            entries = await bus.bucket(subjects.AGENT_DAYS_BUCKET).everything()
            for _, entry in sorted(entries.items()):
                if _wanted(entry.record.ce, entry.record.day, ce, since, until):
                    yield _day(entry.record)

    asyncio.run(written(lines(), form, DayLine))


@history.command("map")
@url_option
@form_option
@CE
@SINCE
@UNTIL
@click.option("--node", default="", help="only agents on this node")
@click.option("--grid-job", type=click.IntRange(min=1), help="only the agent that ran this ALICE job")
def agent_map(
    url: str | None,
    form: str,
    ce: str,
    since: datetime | None,
    until: datetime | None,
    node: str,
    grid_job: int | None,
) -> None:
    """Which agent was which Slurm job on which node, when, and the ALICE jobs that it ran."""

    def chosen(one: Finished) -> bool:
        return node in one.node and (grid_job is None or grid_job in one.grid_jobs)

    async def lines() -> AsyncIterator[AgentLine]:
        async with bus_at(url) as bus:
            async for part in bus.records(subjects.AGENT_MAP_BUCKET, f"{ce or '*'}.*.*"):
                if _wanted(part.ce, part.day, ce, since, until):
                    for one in filter(chosen, part.agents):
                        yield _agent(part.ce, one)

    asyncio.run(written(lines(), form, AgentLine))


def _wanted(of_ce: str, day: str, ce: str, since: datetime | None, until: datetime | None) -> bool:
    on = date.fromisoformat(day)
    early, late = since is not None and on < since.date(), until is not None and on > until.date()
    return not (early or late) and ce in ("", of_ce)


def _day(day: AgentDay) -> DayLine:
    heard = day.monitored_node_hours
    return DayLine(
        ce=day.ce,
        day=day.day,
        agents=day.agents,
        node_hours=day.node_hours,
        efficiency=round(day.working_hours / heard, 4) if heard else None,
        grid_jobs=day.grid_jobs,
        endings=day.endings,
    )


def _agent(ce: str, one: Finished) -> AgentLine:
    def instant(seconds: int | None) -> datetime | None:
        return None if seconds is None else datetime.fromtimestamp(seconds, UTC)

    return AgentLine(
        ce=ce,
        agent=one.agent,
        job_id=one.job_id,
        node=one.node,
        submit_at=instant(one.submit_s),
        start_at=instant(one.start_s),
        end_at=instant(one.end_s),
        ending=one.ending,
        exit_code=one.exit_code,
        run=one.run,
        node_hours=one.node_hours,
        working_hours=one.working_hours,
        grid_jobs_total=one.grid_jobs_total,
        grid_jobs=one.grid_jobs,
    )

"""`nacre status` and `nacre watch`: the house on one screen, with the age of everything."""

import asyncio
from datetime import datetime

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from libs.events.messages import CredentialObserved, FacilityObserved, MonitoringObserved
from services.operator_console.cli.reach import asked, json_option, print_json, reached, url_option
from services.operator_console.house import CeState, House, Instance
from services.operator_console.shown import UNKNOWN, age, lasting, number, printable

SOON_DAYS = 14.0
LEASE = {None: "", True: " active", False: " standby"}


@click.command()
@url_option
@json_option
def status(url: str | None, as_json: bool) -> None:
    """The house on one screen: every CE, the services, the facility, credentials, relays; each with its age."""
    house = asked(url, lambda reader: reader.house())
    if as_json:
        print_json(house)
    else:
        Console().print(screen(house))


@click.command()
@url_option
@click.option("--every", "every_s", type=click.FloatRange(0.2, 3600), default=2.0, show_default=True, help="seconds")
def watch(url: str | None, every_s: float) -> None:
    """`nacre status`, again and again until Ctrl-C."""
    asyncio.run(_watch(url, every_s))


async def _watch(url: str | None, every_s: float) -> None:
    async with reached(url) as reader:
        with Live(console=Console(), screen=True, auto_refresh=False) as live:
            while True:
                live.update(screen(await reader.house()), refresh=True)
                await asyncio.sleep(every_s)


def screen(house: House) -> RenderableType:
    """The whole screen."""
    parts: list[RenderableType] = [_ces(house.ces, house.at)]
    parts += [_why(state, house.at) for state in house.ces]
    if not house.ces:
        parts.append("no CE has been heard of: are the services up, and has `nacre bus init` run?")
    parts += [_facility(one, house.at) for one in house.facilities]
    parts += [_services(house.instances), _credentials(house.credentials, house.at), _relays(house.relays, house.at)]
    parts += [
        f"[yellow]wish[/yellow] {key}: {printable(wish.reason)} ({printable(wish.author)}, "
        f"{age(wish.made_at, house.at)} ago{_until(wish.expires_at, house.at)})"
        for key, wish in sorted(house.wishes.items())
    ]
    return Group(*parts)


def _until(expires_at: datetime | None, now: datetime) -> str:
    return "" if expires_at is None else f", {lasting((expires_at - now).total_seconds())} left"


def _ces(ces: list[CeState], now: datetime) -> Table:
    columns = (
        "CE",
        "waiting",
        "asked",
        "max jobs",
        "max queued",
        "queued",
        "running",
        "unaccounted",
        "strangers",
        "listed",
    )
    table = Table(*columns, box=None, title=f"Nacre at {now:%Y-%m-%d %H:%M:%S} UTC", title_justify="left")
    for state in ces:
        demand, queue = state.demand, state.batch_queue
        limits = demand.limits if demand else None
        waiting = "locked" if demand and demand.locked else number(demand.waiting if demand else None)
        table.add_row(
            state.ce,
            waiting,
            age(demand.at if demand else None, now),
            number(limits.max_jobs if limits else None),
            number(limits.max_queued if limits else None),
            number(queue.queued if queue else None),
            number(queue.running if queue else None),
            number(queue.unaccounted if queue else None),
            number(queue.strangers if queue else None),
            age(queue.listed_at if queue else None, now),
        )
    return table


def _why(state: CeState, now: datetime) -> Text:
    if state.decided is None:
        return Text(f"{state.ce}: no decision yet")
    return Text(f"{state.ce}: {printable(state.decided.why)} ({age(state.decided.at, now)} ago)")


def _facility(seen: FacilityObserved, now: datetime) -> Text:
    words = [f"{seen.machine}: {seen.status}"]
    if seen.unknown_because:
        words.append(printable(seen.unknown_because))
    for outage in seen.planned_outages:
        words.append(
            f"outage {outage.start_at:%m-%d %H:%M} to {outage.end_at:%m-%d %H:%M} UTC ({printable(outage.name)})"
        )
    for one in seen.allocations or []:
        left = one.node_hours_given - one.node_hours_used
        words.append(f"{one.account} {one.kind}: {left:.0f} of {one.node_hours_given:.0f} node hours left")
    return Text(f"{'; '.join(words)} ({age(seen.at, now)} ago)")


def _services(instances: list[Instance]) -> Text:
    if not instances:
        return Text("services: none answers", style="red")
    words = [f"{one.service}/{one.instance} {one.version}{LEASE[one.active]}" for one in instances]
    return Text(f"services: {', '.join(words)}")


def _credentials(seen: CredentialObserved | None, now: datetime) -> Text:
    if seen is None:
        return Text(f"credentials: {UNKNOWN}, cert_renewer has said nothing", style="yellow")
    words, style = [], ""
    for one in seen.credentials:
        days = UNKNOWN if one.days_left is None else f"{one.days_left:.1f} d"
        words.append(f"{one.kind} {days}{f' ({printable(one.problem)})' if one.problem else ''}")
        if one.problem or (one.days_left is not None and one.days_left < SOON_DAYS):
            style = "yellow"
    return Text(f"credentials left: {', '.join(words)} ({age(seen.at, now)} ago)", style=style)


def _relays(relays: list[MonitoringObserved], now: datetime) -> Text:
    if not relays:
        return Text("relays: none has reported", style="yellow")
    words = []
    for one in relays:
        per_s = one.received / max(1.0, (one.at - one.since).total_seconds())
        dropped = sum(one.dropped.values()) + one.kernel_drops
        words.append(f"{one.relay} {one.received} received ({per_s:.1f}/s), {dropped} dropped ({age(one.at, now)} ago)")
    return Text(f"relays: {'; '.join(words)}")

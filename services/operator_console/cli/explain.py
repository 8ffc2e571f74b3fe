"""`nacre explain`: why the last decision is what it is, and how it came there."""

from datetime import timedelta

import click
from rich.console import Console
from rich.table import Table

from libs.events.messages import SubmissionDecided
from libs.runtime import clock
from libs.runtime.errors import Refused
from services.operator_console.cli.reach import asked, json_option, print_json, url_option
from services.operator_console.house import House
from services.operator_console.reader import Reader
from services.operator_console.shown import age, number, printable


@click.command()
@click.argument("ce", required=False)
@url_option
@json_option
@click.option("--hours", type=click.FloatRange(0, 720), default=1.0, show_default=True, help="how far back to look")
def explain(ce: str | None, url: str | None, as_json: bool, hours: float) -> None:
    """Why so many job agents, or none: the last decision of CE (all, if not named), its inputs, and those before it."""
    since = clock.now() - timedelta(hours=hours)

    async def question(reader: Reader) -> tuple[House, dict[str, list[SubmissionDecided]]]:
        house = await reader.house()
        names = [state.ce for state in house.ces]
        if ce is not None and ce not in names:
            raise Refused(f"no CE {ce!r} has been heard of; there are: {', '.join(names) or 'none'}")
        return house, {name: await reader.decisions(name, since) for name in ([ce] if ce else names)}

    house, journal = asked(url, question)
    if as_json:
        last = {state.ce: state.decided for state in house.ces if state.ce in journal}
        print_json({name: {"last": last[name], "history": turns(decided)} for name, decided in journal.items()})
        return
    console = Console()
    for state in house.ces:
        if state.ce not in journal:
            continue
        if state.decided is None:
            console.print(f"{state.ce}: no decision yet; is slurm_submitter up, and its lease held?")
            continue
        console.print(
            f"[bold]{state.ce}[/bold]: {printable(state.decided.why)} ({age(state.decided.at, house.at)} ago)"
        )
        console.print(_inputs(state.decided))
        console.print(_history(journal[state.ce]))


def turns(decisions: list[SubmissionDecided]) -> list[SubmissionDecided]:
    """Of decisions that say the same in a row only the first: the journal's turning points. Pure."""
    kept: list[SubmissionDecided] = []
    for one in decisions:
        if not kept or (kept[-1].bound, kept[-1].submit) != (one.bound, one.submit) or one.submit:
            kept.append(one)
    return kept


def _inputs(decided: SubmissionDecided) -> Table:
    table = Table("number", "value", box=None)
    for name in decided.inputs.__struct_fields__:
        table.add_row(name.replace("_", " "), number(getattr(decided.inputs, name)))
    for name, room in decided.limits.items():
        mark = "  <- bound" if name == decided.bound else ""
        table.add_row(f"room by {name.replace('_', ' ')}", f"{room}{mark}")
    return table


def _history(decisions: list[SubmissionDecided]) -> Table:
    table = Table("at (UTC)", "submitted", "bound by", "why", box=None)
    for one in turns(decisions)[-20:]:
        table.add_row(f"{one.at:%m-%d %H:%M:%S}", str(one.submit), one.bound, printable(one.why))
    return table

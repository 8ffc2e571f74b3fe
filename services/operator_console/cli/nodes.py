"""`nacre nodes`: the worker nodes that job agents fail on."""

import click
from rich.console import Console
from rich.table import Table

from libs.runtime import clock
from services.operator_console.cli.reach import asked, json_option, print_json, url_option
from services.operator_console.shown import age, lasting, printable


@click.command()
@url_option
@json_option
def nodes(url: str | None, as_json: bool) -> None:
    """Nodes that are suspected now, and avoided until their time is over."""
    found = asked(url, lambda reader: reader.nodes())
    if as_json:
        print_json(found)
        return
    now = clock.now()
    table = Table("machine", "node", "suspected", "for another", "why", "agents", box=None)
    for one in found:
        left = lasting((one.until - now).total_seconds())
        why = printable(one.why, 100)
        table.add_row(one.machine, one.node, f"{age(one.at, now)} ago", left, why, ", ".join(one.agents[:3]))
    Console().print(table if found else "no node is suspected")

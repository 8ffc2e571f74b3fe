"""`nacre submissions`: what was submitted, and what became of each POST."""

import click
from rich.console import Console
from rich.table import Table

from libs.runtime import clock
from services.operator_console.cli.reach import asked, json_option, print_json, url_option
from services.operator_console.shown import age, printable


@click.command()
@url_option
@json_option
@click.option("--state", default="", help="only in this state: intended, accepted, refused, unclear, adopted, ...")
@click.option("--limit", type=click.IntRange(1, 10_000), default=30, show_default=True, help="the newest so many")
def submissions(url: str | None, as_json: bool, state: str, limit: int) -> None:
    """Submissions on record, oldest first."""
    found = [one for one in asked(url, lambda reader: reader.submissions()) if not state or one.state == state]
    if as_json:
        print_json(found[-limit:])
        return
    now = clock.now()
    table = Table("submission", "agents", "state", "Slurm job", "intended", "why", box=None)
    for one in found[-limit:]:
        intended = f"{age(one.intended_at, now)} ago"
        table.add_row(one.name, str(one.agents), one.state, one.job_id, intended, printable(one.why, 100))
    Console().print(table if found else "no submission is on record")

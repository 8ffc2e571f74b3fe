"""`nacre credentials`: every secret with a clock, and how long it still lasts."""

import click
from rich.console import Console
from rich.table import Table

from libs.runtime.errors import Unreachable
from services.operator_console.cli.install_client import install_client
from services.operator_console.cli.reach import asked, json_option, print_json, url_option
from services.operator_console.shown import UNKNOWN, age, printable


@click.group(invoke_without_command=True)
@click.pass_context
@url_option
@json_option
def credentials(context: click.Context, url: str | None, as_json: bool) -> None:
    """Every credential of the site: whose, from whom, days left, and what is wrong with it."""
    if context.invoked_subcommand is not None:
        return
    house = asked(url, lambda reader: reader.house())
    if house.credentials is None:
        raise Unreachable("cert_renewer has said nothing yet: is it up? `nacre status` shows which services answer")
    if as_json:
        print_json(house.credentials)
        return
    table = Table("kind", "subject", "issuer", "days left", "source", "checked", "alarm", "problem, to do", box=None)
    for one in house.credentials.credentials:
        days = UNKNOWN if one.days_left is None else f"{one.days_left:.1f}"
        checked = f"{age(one.checked_at, house.at)} ago"
        kind = f"{one.kind} {one.name}".strip()
        words = "; ".join(word for word in (one.problem, one.todo) if word)
        table.add_row(kind, one.subject, one.issuer, days, one.source, checked, one.alarm, printable(words))
    Console().print(table)


credentials.add_command(install_client)

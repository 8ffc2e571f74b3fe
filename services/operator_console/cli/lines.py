"""Records to standard output, one a line, as CSV or JSON lines."""

import csv
import sys
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import click
import msgspec

form_option = click.option(
    "--format", "form", type=click.Choice(["csv", "jsonl"]), default="csv", show_default=True, help="one line a record"
)


async def written(records: AsyncIterator[Any], form: str, kind: type[msgspec.Struct]) -> None:
    """Each as it comes: what is exported may be larger than memory need be."""
    if form == "jsonl":
        async for record in records:
            click.echo(msgspec.json.encode(record))
        return
    writer = csv.writer(sys.stdout)
    writer.writerow(kind.__struct_fields__)
    async for record in records:
        writer.writerow([cell(getattr(record, name)) for name in kind.__struct_fields__])


def cell(content: object) -> str:
    """One cell; a leading sign that a spreadsheet would take for a formula is kept from it."""
    if isinstance(content, dict):
        text = " ".join(f"{name}={count}" for name, count in sorted(content.items()))
    elif isinstance(content, list):
        text = " ".join(map(str, content))
    elif isinstance(content, datetime):
        text = content.isoformat()
    else:
        text = "" if content is None else str(content)
    return f"'{text}" if text[:1] in {"=", "+", "@"} else text

"""Tables of many rows, fast: per batch a template with what never changes, filled with what does.

The same row comes out as a line (`a|b|c`) and as the API's JSON object by lower-cased header.
"""

from __future__ import annotations

import copy
import itertools
import json
import re
from collections.abc import Mapping

from tests.world.superfacility.commands import Pieces, as_object, read_rows

Values = Mapping[str, str] | tuple[str, ...]


class Template:
    """One batch's rows: `fixed` values by column, the `changing` columns filled in later."""

    def __init__(
        self, columns: Mapping[str, str], fixed: Mapping[str, str], changing: frozenset[str], *, by_name: bool = True
    ) -> None:
        """Without `by_name` the values come as a tuple, in the columns' order, which must have no header twice."""
        self._headers = list(columns.values())

        def value(column: str) -> str:
            gap = f"%({column})s" if by_name else "%s"
            return gap if column in changing else fixed.get(column, "").replace("%", "%%")

        self._line = "|".join(value(column) for column in columns)
        # What an unlucky comment does to the real table, it does here: the columns slip.
        slips = any("|" in text or "\n" in text for text in fixed.values())
        last = {header.lower(): column for column, header in columns.items()}
        pairs = {header: value(column) for header, column in last.items()}
        self._object = None if slips else json.dumps(pairs, separators=(",", ":"))
        self._between: Pieces | None = None

    def filled(self, values: tuple[str, ...]) -> Template:
        """Return this template with some gaps filled: a value of `%s` stays a gap, any other has its `%` doubled."""
        template = copy.copy(self)
        template._line = self._line.replace("%%", "%%%%") % values
        template._object = None if self._object is None else self._object.replace("%%", "%%%%") % values
        template._between = None
        return template

    def line(self, values: Values) -> str:
        """Return one line of the text table."""
        return self._line % values

    def objects(self, values: Values) -> list[Pieces]:
        """Return one JSON object; more only where the row itself breaks the table."""
        if self._object is not None:
            return [((self._object % values).encode(),)]
        return [as_object(row) for row in read_rows(self._headers, (self._line % values).split("\n"))]

    def pieces(self, values: tuple[str, ...]) -> Pieces | None:
        """Return the JSON object in pieces, those between the gaps shared; None where the row breaks the table."""
        if self._object is None:
            return None
        if self._between is None:
            # JSON text has no NUL, so that one can stand for a gap.
            cut = re.sub("%%|%s", lambda found: "%" if found[0] == "%%" else "\0", self._object)
            self._between = tuple([piece.encode() for piece in cut.split("\0")])
        filled = zip(self._between, [value.encode() for value in values], strict=False)
        return (*itertools.chain.from_iterable(filled), self._between[-1])

"""What accounting keeps: an ended job's rows are written down once, at its end, and listed from there ever after."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from tests.world.superfacility.commands import Answer, Pieces
from tests.world.superfacility.model import sacct
from tests.world.superfacility.model.columns import SACCT_COLUMNS
from tests.world.superfacility.model.controller import Controller
from tests.world.superfacility.model.jobs import Element
from tests.world.superfacility.model.records import Writer

# Beyond so many the oldest are written anew by each listing. Tasks of arrays share nearly all of their rows and take
# about 1 kB each; jobs that share nothing take about 5 kB.
WRITTEN_MAX = 200_000


class Accounting:
    """The rows of `sacct -P -o ALL` as the API's JSON objects."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._writer = Writer(controller, {}, SACCT_COLUMNS)
        self._written: deque[Element] = deque()
        controller.on_end = self._write

    def objects(self, words: Sequence[str], page: slice) -> list[Pieces] | Answer:
        """Return a page of the rows of `sacct -P -o ALL words`."""
        asked = sacct.select(self._controller, words)
        if isinstance(asked, Answer):
            return asked
        write = Writer(self._controller, {}, SACCT_COLUMNS)
        found: list[Pieces] = []
        for element, state, step in asked.rows()[page]:
            if element.written and state == element.state:
                found.append(element.written[step])
            else:
                template, values = write.row(element, state, step=step)
                found += template.objects(values)
        return found

    def _write(self, element: Element) -> None:
        """Write down a job that has just ended, and its step if it had started; none of it changes any more."""
        # Tasks that never started share one record, which changes with each of them.
        if element.raw_id is None:
            return
        steps = (False,) if element.start_at is None else (False, True)
        rows = [self._writer.row(element, element.state, step=step) for step in steps]
        pieces = [template.pieces(values) for template, values in rows]
        element.written = tuple([row for row in pieces if row is not None])
        if len(element.written) < len(rows):
            element.written = ()
            return
        self._written.append(element)
        if len(self._written) > WRITTEN_MAX:
            self._written.popleft().written = ()

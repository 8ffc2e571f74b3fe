"""What gathers between two resets of a stream: the values that have a handle, and the number of parts of objects."""

from libs.alice.limits import Limits
from libs.alice.nodes import Value
from libs.alice.source import Source


class AbortedByWriter(Exception):
    """A TC_EXCEPTION ends the top-level object it stands in, wherever it stands."""

    def __init__(self, exception: Value) -> None:
        super().__init__()
        self.exception = exception


class Handles:
    """The table of handles of one direction. Both counts are bounded; beyond a bound is a fault at the parser's place.

    `values[n]` has the n-th handle since the reset; the list stays the same object for good.
    """

    def __init__(self, source: Source, limits: Limits) -> None:
        self.values: list[Value] = []
        self.parts = 0
        self.reset_offset = 0
        self._source = source
        self._limits = limits

    @property
    def are_within_bounds(self) -> bool:
        """False when more was added than allowed, by who adds without `remember` and `count_part`."""
        return len(self.values) <= self._limits.handles and self.parts <= self._limits.parts

    def forget(self) -> None:
        """A reset, or an abort: nothing before this place can be referred to."""
        self.values.clear()
        self.parts = 0
        self.reset_offset = self._source.offset

    def remember(self, value: Value) -> None:
        """Give the value the next handle."""
        if len(self.values) >= self._limits.handles:
            raise self._source.fault("more handles than allowed")
        self.values.append(value)

    def count_part(self) -> None:
        """One more class of one more object."""
        self.parts += 1
        if self.parts > self._limits.parts:
            raise self._source.fault("more parts of objects than allowed")

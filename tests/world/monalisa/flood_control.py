"""The genuine receiver's flood control: a mean rate per source address. Pure: the second and the dice are handed in.

What it kept of one address at its default of 50/s (measured): all of 60/s for 12 s; of 200/s 200, 200, 200, 116 and
then 50 in each second; of 2000/s 625, then 50. It forgets slowly (weight 0.92 per second), so
a flood is paid for later.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

DEFAULT_PER_S = 50
MAX_PER_S = 1_000_000
MAX_ADDRESSES = 5000
FORGOTTEN_AFTER_S = 10
CLEANED_EVERY_S = 60
HISTORY_WEIGHT = math.exp(-5 / 60)


@dataclass
class _Source:
    """One address: what it was allowed in the running second, and the weighted mean of those before."""

    second: int
    second_before: int
    taken: int = 0
    mean: float = 0.0


class FloodControl:
    """Decides datagram by datagram; `dice` gives numbers from 0 to 1, `dropped` counts by address."""

    def __init__(self, per_s: int, dice: Callable[[], float]) -> None:
        self.per_s = per_s
        self.dropped: dict[str, int] = {}
        self._dice = dice
        self._sources: dict[str, _Source] = {}
        self._cleaned_at = 0

    def drops(self, address: str, second: int) -> bool:
        """Whether a datagram of this address that comes in this second is thrown away."""
        source = self._sources.get(address)
        if source is None:
            # As if it had been seen a second ago and sent nothing: that is how the figures above were measured.
            source = self._sources[address] = _Source(second, second - 1)
        elif second > source.second:
            mean = HISTORY_WEIGHT * source.mean + (1 - HISTORY_WEIGHT) * source.taken
            source.mean = mean / (second - source.second)
            source.second_before, source.second, source.taken = source.second, second, 0
        weighed = HISTORY_WEIGHT * source.mean + (1 - HISTORY_WEIGHT) * source.taken
        rate = int(weighed / (source.second - source.second_before))
        margin = self.per_s // 10
        dropped = rate > margin and self._dice() * margin > self.per_s - rate
        if not dropped:
            source.taken += 1
        elif address in self.dropped or len(self.dropped) < MAX_ADDRESSES:
            self.dropped[address] = self.dropped.get(address, 0) + 1
        else:
            self.dropped["(others)"] = self.dropped.get("(others)", 0) + 1
        self._clean(second)
        return dropped

    def _clean(self, second: int) -> None:
        if len(self._sources) <= MAX_ADDRESSES and second - self._cleaned_at <= CLEANED_EVERY_S:
            return
        self._cleaned_at = second
        for address in [a for a, source in self._sources.items() if second - source.second > FORGOTTEN_AFTER_S]:
            del self._sources[address]
        for address in list(self._sources)[: max(0, len(self._sources) - MAX_ADDRESSES * 3 // 4)]:
            if len(self._sources) > MAX_ADDRESSES * 3 // 4:
                del self._sources[address]

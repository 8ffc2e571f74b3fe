"""One process's share of the API's rate limit: a token bucket that also obeys Retry-After."""

import asyncio

from libs.runtime.errors import RateLimited


class RateShare:
    """At most `rate_per_s` requests a second on average, `burst` at once.

    Waits are bounded: a caller that would wait longer than `patience_s` gets RateLimited at once, and its turn is free.
    """

    def __init__(self, rate_per_s: float, *, burst: int = 4, patience_s: float = 30.0) -> None:
        self._interval_s = 1.0 / rate_per_s
        self._slack_s = (burst - 1) * self._interval_s
        self._patience_s = patience_s
        # The instants (of the event loop's clock) at which the next request is due, and before which none may leave.
        self._due_s = 0.0
        self._closed_until_s = 0.0

    async def turn(self) -> None:
        """Wait for the next turn. RateLimited says how long it would be when that is longer than the patience."""
        now_s = asyncio.get_running_loop().time()
        due_s = max(self._due_s, now_s - self._slack_s, self._closed_until_s)
        wait_s = due_s - now_s
        if wait_s > self._patience_s:
            raise RateLimited(f"our share of the API's rate is taken for the next {wait_s:.0f} s", wait_s)
        self._due_s = due_s + self._interval_s
        if wait_s > 0:
            await asyncio.sleep(wait_s)

    def close_for(self, wait_s: float) -> None:
        """The API said to come back later: nobody's turn comes before."""
        now_s = asyncio.get_running_loop().time()
        self._closed_until_s = max(self._closed_until_s, now_s + wait_s)

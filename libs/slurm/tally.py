"""What the API is like just now, as seen from this process: how often it was asked, how long it took, what went wrong.

Pure: seconds of any one clock come in.
"""

from collections import Counter, deque
from typing import NamedTuple

import msgspec

WINDOW_S = 900.0
# Requests remembered at most; at our share of the API's rate the window holds fewer.
MOST = 2000


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """Requests of the last `window_s` seconds, failures by kind, and seconds that answers took (None: no answer)."""

    window_s: float
    requests: int
    failures: dict[str, int]
    latency_s_p50: float | None
    latency_s_p95: float | None
    latency_s_max: float | None


class _Request(NamedTuple):
    at_s: float
    latency_s: float | None
    failure: str


class Tally:
    """The last requests. `failure` is empty for a good answer; an answer that says an error is a failure, too."""

    def __init__(self) -> None:
        self._requests: deque[_Request] = deque(maxlen=MOST)

    def answered(self, at_s: float, latency_s: float, failure: str = "") -> None:
        """An answer came at `at_s`."""
        self._requests.append(_Request(at_s, latency_s, failure))

    def failed(self, at_s: float, failure: str) -> None:
        """No answer came."""
        self._requests.append(_Request(at_s, None, failure))

    def said_an_error(self, failure: str) -> None:
        """The last answer, though good HTTP, said an error."""
        if self._requests:
            self._requests.append(self._requests.pop()._replace(failure=failure))

    def seen(self, now_s: float) -> Seen:
        """The requests of the last WINDOW_S seconds."""
        lately = [one for one in self._requests if now_s - one.at_s <= WINDOW_S]
        latencies_s = sorted(one.latency_s for one in lately if one.latency_s is not None)
        return Seen(
            window_s=WINDOW_S,
            requests=len(lately),
            failures=dict(Counter(one.failure for one in lately if one.failure)),
            latency_s_p50=_quantile(latencies_s, 0.5),
            latency_s_p95=_quantile(latencies_s, 0.95),
            latency_s_max=_quantile(latencies_s, 1.0),
        )


def _quantile(ascending: list[float], share: float) -> float | None:
    return ascending[min(int(share * len(ascending)), len(ascending) - 1)] if ascending else None

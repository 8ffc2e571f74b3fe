"""When requests may leave: not while the facility says that it is away, and not after failures in a row. Pure.

Closed: everything leaves. Open: nothing, until a pause is over that doubles with each further failure. Half-open: one
read leaves; it closes the breaker or opens it for longer. An effect never tries the ice: it leaves only when closed.
While the facility says `unavailable` no effect leaves, and a read only now and then, lest its word is old.
Times are seconds of any clock that only moves on.
"""

import msgspec

FAILURES_TO_OPEN = 3
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 15.0
# Between two reads while the facility says that it is unavailable.
RARE_S = 300.0
UNAVAILABLE = "unavailable"


class Breaker(msgspec.Struct, frozen=True, kw_only=True):
    """`failures` in a row; nothing leaves before `open_until_s`; `facility` as it last said; when a read last left."""

    failures: int = 0
    open_until_s: float = 0.0
    facility: str = ""
    read_at_s: float | None = None

    @property
    def is_open(self) -> bool:
        """Whether failures in a row opened it, and nothing has worked since."""
        return self.failures >= FAILURES_TO_OPEN


def read_wait_s(breaker: Breaker, now_s: float) -> float:
    """How long a read has to wait, 0 when it may leave now."""
    rare_s = 0.0
    if breaker.facility == UNAVAILABLE and breaker.read_at_s is not None:
        rare_s = breaker.read_at_s + RARE_S - now_s
    return max(0.0, rare_s, breaker.open_until_s - now_s if breaker.is_open else 0.0)


def effect_refused(breaker: Breaker) -> str:
    """Why an effect may not leave now; empty when it may."""
    if breaker.facility == UNAVAILABLE:
        return "the facility says that the machine is unavailable"
    if breaker.is_open:
        return f"{breaker.failures} failures in a row"
    return ""


def read_left(breaker: Breaker, now_s: float) -> Breaker:
    """A read leaves now; while half-open no other may before it has come to something."""
    pause_s = _pause_s(breaker.failures)
    until_s = now_s + pause_s if breaker.is_open else breaker.open_until_s
    return msgspec.structs.replace(breaker, read_at_s=now_s, open_until_s=until_s)


def worked(breaker: Breaker) -> Breaker:
    """Something got an answer that makes sense."""
    return msgspec.structs.replace(breaker, failures=0, open_until_s=0.0)


def failed(breaker: Breaker, now_s: float) -> Breaker:
    """Something did not."""
    failures = breaker.failures + 1
    return msgspec.structs.replace(breaker, failures=failures, open_until_s=now_s + _pause_s(failures))


def told(breaker: Breaker, status: str) -> Breaker:
    """The facility said what its status is."""
    return msgspec.structs.replace(breaker, facility=status)


def _pause_s(failures: int) -> float:
    beyond = failures - FAILURES_TO_OPEN
    return 0.0 if beyond < 0 else min(FIRST_PAUSE_S * 2.0 ** min(beyond, 10), LONGEST_PAUSE_S)

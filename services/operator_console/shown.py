"""How facts are said in few words: ages, counts, unknowns. Pure."""

from datetime import datetime

UNKNOWN = "?"
MINUTE_S, HOUR_S, DAY_S = 60.0, 3600.0, 86400.0


def age(since: datetime | None, now: datetime) -> str:
    """How long ago: `12 s`, `5 min`, `3.2 h`, `4.1 d`; `?` when it never was."""
    return UNKNOWN if since is None else lasting((now - since).total_seconds())


def lasting(seconds: float) -> str:
    """A length of time in the unit that fits, never below zero: clocks of two machines differ."""
    seconds = max(0.0, seconds)
    if seconds < 2 * MINUTE_S:
        return f"{seconds:.0f} s"
    if seconds < 2 * HOUR_S:
        return f"{seconds / MINUTE_S:.0f} min"
    if seconds < 2 * DAY_S:
        return f"{seconds / HOUR_S:.1f} h"
    return f"{seconds / DAY_S:.1f} d"


def number(count: float | None) -> str:
    """A count, or `?`: unknown is never zero."""
    return UNKNOWN if count is None else f"{count:g}"


def printable(text: str, limit: int = 500) -> str:
    """Text of others on one line, without control characters or terminal escapes, cut at `limit`."""
    clean = "".join(char if char.isprintable() else " " for char in text)
    return clean if len(clean) <= limit else f"{clean[: limit - 1]}…"

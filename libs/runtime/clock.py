"""The only place that reads a clock. Decisions take `now` as an argument."""

import time
from datetime import UTC, datetime


def now() -> datetime:
    """The present instant, aware, UTC."""
    return datetime.now(UTC)


def monotonic_s() -> float:
    """Seconds that never go back; only differences mean anything."""
    return time.monotonic()

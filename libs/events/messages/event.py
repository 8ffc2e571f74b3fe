"""What every message carries."""

from datetime import datetime

import msgspec


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """What every message carries: `at`, the instant of the fact, and `by`, `<service>/<instance>` that says it.

    `ce`, where a message or record has one, is the CE's short name; `machine` the machine's.
    """

    at: datetime
    by: str
    version: int = 1

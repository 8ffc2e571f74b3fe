"""The relays' counts."""

from datetime import datetime

from libs.events.messages.event import Event


class MonitoringObserved(Event, frozen=True, kw_only=True):
    """One relay's totals of datagrams since `since`. `forwarded` is per destination, `dropped` per reason."""

    relay: str
    since: datetime
    received: int
    published: int
    refused: int
    forwarded: dict[str, int] = {}
    dropped: dict[str, int] = {}
    kernel_drops: int = 0

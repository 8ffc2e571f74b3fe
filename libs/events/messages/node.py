"""Worker nodes that job agents fail on."""

from datetime import datetime

from libs.events.messages.event import Event


class NodeSuspected(Event, frozen=True, kw_only=True):
    """Job agents fail early or stay silent on `node`: to be avoided until `until`. `agents`: some that say so."""

    machine: str
    node: str
    until: datetime
    why: str
    agents: list[str] = []


class NodeCleared(Event, frozen=True, kw_only=True):
    """A suspected node is believed again before its time, because of `why`."""

    machine: str
    node: str
    why: str

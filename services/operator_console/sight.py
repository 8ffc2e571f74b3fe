"""Look at the house over the bus: one look takes a fraction of a second and leaves nothing behind."""

import asyncio
from typing import Any

from libs.bus.connection import Bus
from libs.events import subjects
from libs.events.rows import PREFIX, Stream
from libs.runtime import clock
from services.operator_console.house import House, assembled

DECISIONS = subjects.SUBMISSION_DECIDED.pattern


async def look(bus: Bus, *, discover_s: float = 0.2) -> House:
    """The house as of now. Raises the bus's Transient errors; services are given `discover_s` to answer."""
    latest, decisions, leases, wishes, answering = await asyncio.gather(
        _newest(bus, subjects.LATEST, f"{PREFIX}.>"),
        _newest(bus, subjects.SUBMISSIONS, DECISIONS),
        _records(bus, subjects.LEASES_BUCKET),
        _records(bus, subjects.CONTROL_BUCKET),
        bus.answering(discover_s),
    )
    seen = [(one.service, one.instance, one.version) for one in answering]
    return assembled([*latest, *decisions], leases, seen, wishes, clock.now())


async def _newest(bus: Bus, stream: Stream, pattern: str) -> list[tuple[str, bytes]]:
    return [(seen.subject, seen.body) async for seen in bus.newest(stream, pattern)]


async def _records(bus: Bus, table: Any) -> dict[str, Any]:
    entries = await bus.bucket(table).everything()
    return {key: entry.record for key, entry in entries.items()}

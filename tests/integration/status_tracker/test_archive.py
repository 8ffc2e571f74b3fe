"""Finished agents leave for the map and their day's summary, on a real nats-server, wherever it is stopped."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from libs.bus.connection import Bus
from libs.events import subjects
from libs.events.messages import AgentDay, AgentMap, JobAgent
from libs.runtime import clock
from libs.runtime.errors import Overloaded
from services.status_tracker.keeping.archive import Archive
from services.status_tracker.rules import retention
from tests.unit.status_tracker.made import NAME, record, submission

LONG_AGO = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
DAY = "cpu.2026-01-02"
AGENTS = 25


def finished(number: int, **changes: Any) -> JobAgent:
    about: dict[str, Any] = {
        "agent": f"{NAME}.{number}", "index": number, "ending": "completed", "end_at": LONG_AGO, "node_hours": 2.0,
    }  # fmt: skip
    return record("ended", **about | changes)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "PART", 10)


@contextlib.asynccontextmanager
async def archive(bus: Bus) -> AsyncIterator[Archive]:
    """An archive over mirrors that are whole."""
    async with (
        bus.mirror(subjects.SUBMISSIONS_BUCKET) as submissions,
        bus.mirror(subjects.JOB_AGENTS_BUCKET) as agents,
    ):
        for one in (submissions, agents):
            assert await one.whole(asyncio.Event())
        yield Archive(bus, submissions, agents)


async def write(bus: Bus, *records: JobAgent) -> None:
    for one in records:
        await bus.bucket(subjects.JOB_AGENTS_BUCKET).write(one.agent, one, 0)


async def kept(bus: Bus) -> tuple[AgentDay | None, list[str], list[str]]:
    """The day's summary, the agents in the map, and those that still have a record."""
    day = await bus.bucket(subjects.AGENT_DAYS_BUCKET).read(DAY)
    parts = await bus.bucket(subjects.AGENT_MAP_BUCKET).everything()
    mapped = [one.agent for part in parts.values() for one in part.record.agents]
    records = await bus.bucket(subjects.JOB_AGENTS_BUCKET).everything()
    return (day.record if day else None), sorted(mapped), sorted(records)


async def test_old_agents_become_a_day(bus: Bus) -> None:
    """Each is in the map once and in the sums once, and its record is gone; the young and the held stay."""
    young = finished(100, end_at=clock.now() - timedelta(days=1))
    held = finished(101, submission="nacre-cpu-held", agent="nacre-cpu-held.0")
    await write(bus, *(finished(number) for number in range(AGENTS)), young, held, record("running", agent="r"))
    await bus.bucket(subjects.SUBMISSIONS_BUCKET).write("nacre-cpu-held", submission(name="nacre-cpu-held"), 0)
    async with archive(bus) as one:
        await one.step()
        await one.step()
    day, mapped, records = await kept(bus)
    assert day is not None and (day.agents, day.endings, day.node_hours, day.parts) == (25, {"completed": 25}, 50.0, 3)
    assert mapped == sorted(f"{NAME}.{number}" for number in range(AGENTS))
    assert records == sorted([young.agent, held.agent, "r"])


@pytest.mark.parametrize("writes", range(1, 14))
async def test_a_stop_at_any_write_counts_nobody_twice(bus: Bus, writes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """After any number of writes the next archive goes on, and in the end every agent is counted once."""
    await write(bus, *(finished(number) for number in range(AGENTS)))
    left = writes

    def breaking(method: Any) -> Any:
        async def broken(self: Any, *args: Any, **kwargs: Any) -> Any:
            nonlocal left
            if left == 0:
                raise Overloaded("stopped here")
            left -= 1
            return await method(self, *args, **kwargs)

        return broken

    with monkeypatch.context() as patch:
        bucket = type(bus.bucket(subjects.AGENT_DAYS_BUCKET))
        patch.setattr(bucket, "write", breaking(bucket.write))
        patch.setattr(bucket, "delete", breaking(bucket.delete))
        with pytest.raises(Overloaded):
            async with archive(bus) as one:
                await one.step()
    async with archive(bus) as one:
        await one.step()
        await one.step()
    day, mapped, records = await kept(bus)
    assert day is not None and (day.agents, day.node_hours) == (AGENTS, 50.0)
    assert mapped == sorted(f"{NAME}.{number}" for number in range(AGENTS))
    assert records == []


async def test_who_lives_again_is_counted_again(bus: Bus) -> None:
    """A record of the same agent's next run is no leftover of the one that was counted."""
    await write(bus, finished(0))
    async with archive(bus) as one:
        await one.step()
    await write(bus, finished(0, run=1))
    async with archive(bus) as one:
        await one.step()
    day, mapped, records = await kept(bus)
    assert day is not None and (day.agents, mapped, records) == (2, [f"{NAME}.0"] * 2, [])


async def test_the_map_forgets_and_the_days_do_not(bus: Bus) -> None:
    """A full map drops its oldest part; a full bucket of days would refuse."""
    map_config = (await bus.js.stream_info("KV_agent_map")).config
    day_config = (await bus.js.stream_info("KV_agent_days")).config
    assert (map_config.discard, map_config.max_age) == ("old", 180 * 86400)
    assert (day_config.discard, day_config.max_age) == ("new", 0)
    assert subjects.AGENT_MAP_BUCKET.record is AgentMap

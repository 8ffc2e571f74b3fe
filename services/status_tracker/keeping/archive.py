"""Bring finished agents out of the bucket of records: into the map, into their day's summary, then away.

Each step is seen by whoever comes next: a part that is written and not counted is counted, a record that is counted and
still there goes. So a stop at any point counts nobody twice.
"""

import logging
from collections.abc import Mapping

from libs.bus.bucket import Entry
from libs.bus.connection import Bus, Mirror
from libs.events import subjects
from libs.events.messages import AgentDay, AgentMap, Finished, JobAgent, Submission
from libs.runtime import clock
from services.status_tracker.rules import retention

EVERY_S = 600.0
# Parts in one step: what is left over comes with the next.
PARTS_AT_ONCE = 40

log = logging.getLogger(__name__)


class Archive:
    """Of all machines at once: its records are of one CE each."""

    def __init__(self, bus: Bus, submissions: Mirror[Submission], agents: Mirror[JobAgent]) -> None:
        self._records = bus.bucket(subjects.JOB_AGENTS_BUCKET)
        self._days = bus.bucket(subjects.AGENT_DAYS_BUCKET)
        self._map = bus.bucket(subjects.AGENT_MAP_BUCKET)
        self._submissions = submissions
        self._agents = agents

    async def step(self) -> None:
        """Bring away what is outdated. Raises the bus's Transient errors."""
        known = (one.record for one in self._agents.entries.values())
        left = PARTS_AT_ONCE
        old = retention.outdated(known, self._submissions.entries, clock.now())
        for (ce, day), records in retention.days(old).items():
            waiting = await self._without_those_counted(ce, day, records)
            while waiting and left:
                left -= 1
                waiting = await self._bring_away(ce, day, waiting)
            log.info("%s: %d agents that ended on %s are in its summary", ce, len(records) - len(waiting), day)

    async def _without_those_counted(self, ce: str, day: str, records: list[JobAgent]) -> list[JobAgent]:
        """Take away what the last counted part holds, should somebody have stopped there; gives the others."""
        summary = await self._days.read(retention.key(ce, day))
        if summary is None or not summary.record.parts:
            return records
        last = await self._map.read(retention.key(ce, day, summary.record.parts - 1))
        return await self._drop(last.record.agents if last else [], records)

    async def _bring_away(self, ce: str, day: str, records: list[JobAgent]) -> list[JobAgent]:
        """One part of the map, its sums, then its records; gives those that are left."""
        name = retention.key(ce, day)
        summary: Entry[AgentDay] | None = await self._days.read(name)
        before = summary.record if summary else AgentDay(ce=ce, day=day)
        place = retention.key(ce, day, before.parts)
        part: AgentMap
        if (written := await self._map.read(place)) is not None:
            part = written.record
        else:
            part = retention.part(ce, day, records[: retention.PART])
            await self._map.write(place, part, 0)
        await self._days.write(name, retention.summed(before, part.agents), summary.revision if summary else 0)
        return await self._drop(part.agents, records)

    async def _drop(self, counted: list[Finished], records: list[JobAgent]) -> list[JobAgent]:
        lines: Mapping[str, Finished] = {one.agent: one for one in counted}
        kept: list[JobAgent] = []
        for record in records:
            line = lines.get(record.agent)
            # Who lived again since it was counted is another run, and counted on its own.
            if line is None or (line.run, line.end_s) != retention.life(record):
                kept.append(record)
                continue
            entry = self._agents.entries.pop(record.agent, None)
            if entry is not None:
                await self._records.delete(record.agent, entry.revision)
        return kept

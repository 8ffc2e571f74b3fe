"""Fetch what failed agents wrote, and what an operator wishes to see, into the bucket `agent_logs`."""

import logging
from collections import Counter, deque
from datetime import datetime, timedelta

from libs.bus.connection import Bus, Mirror
from libs.events import subjects
from libs.events.messages import AgentLog, FetchLog, JobAgent, Wish
from libs.runtime import clock
from libs.runtime.errors import NacreError, Transient
from libs.slurm.errors import NotFound
from libs.slurm.files import Files
from services.status_tracker.rules import output

EVERY_S = 15.0
# In one step: each is one request of this process's share of the rate, which the listings need first.
AT_ONCE = 2
HOUR = timedelta(hours=1)
# A shared file system may show a file late; after so many tries it is said to be missing.
TRIES = 3

log = logging.getLogger(__name__)


class Logs:
    """Of one machine. What is in the bucket already is not fetched again, but for a later wish."""

    def __init__(self, machine: str, files: Files, bus: Bus, agents: Mirror[JobAgent], wishes: Mirror[Wish]) -> None:
        self._machine = machine
        self._files = files
        self._logs = bus.bucket(subjects.AGENT_LOGS_BUCKET)
        self._agents = agents
        self._wishes = wishes
        self._of_the_hour: deque[tuple[datetime, JobAgent]] = deque(maxlen=1000)
        self._tried: Counter[str] = Counter()
        self._there: dict[str, datetime] = {}

    async def step(self) -> None:
        """Fetch a few. Raises the bus's Transient errors; the API's are tried again with the next step."""
        now = clock.now()
        while self._of_the_hour and now - self._of_the_hour[0][0] > HOUR:
            self._of_the_hour.popleft()
        entries = self._agents.entries
        self._there = {agent: at for agent, at in self._there.items() if agent in entries}
        # Wishes first, the oldest of them first.
        wanted = [(entries[agent].record, made_at) for agent, made_at in self._wished(now) if agent in entries]
        ended = (entry.record for entry in entries.values() if entry.record.state == "ended")
        failed = [one for one in ended if one.machine == self._machine and one.agent not in self._there]
        for record in output.worth_fetching(failed, (one for _, one in self._of_the_hour), now):
            wanted.append((record, record.end_at or now))
        left = AT_ONCE
        for record, newer_than in wanted:
            if left and record.machine == self._machine:
                left -= await self._fetched(record, newer_than, now)

    def _wished(self, now: datetime) -> list[tuple[str, datetime]]:
        """Agents whose output somebody wishes to see, and since when."""
        found = [
            (wish.what.agent, wish.made_at)
            for wish in (entry.record for entry in self._wishes.entries.values())
            if isinstance(wish.what, FetchLog) and (wish.expires_at is None or wish.expires_at > now)
        ]
        return sorted(found, key=lambda one: one[1])

    async def _fetched(self, record: JobAgent, newer_than: datetime, now: datetime) -> bool:
        """Have the output in the bucket, newer than an instant; True when it had to be asked for."""
        if (known := self._there.get(record.agent)) is not None and known > newer_than:
            return False
        entry = await self._logs.read(record.agent)
        if entry is not None and entry.record.fetched_at > newer_than:
            self._there[record.agent] = entry.record.fetched_at
            return False
        log_record = await self._asked_for(record, now)
        if log_record is not None:
            await self._logs.write(record.agent, log_record, entry.revision if entry else 0)
            self._there[record.agent] = now
            self._tried.pop(record.agent, None)
            self._of_the_hour.append((now, record))
        return True

    async def _asked_for(self, record: JobAgent, now: datetime) -> AgentLog | None:
        """What it wrote, or why that cannot be had; None when it may come later."""
        if not record.log_path:
            return _nothing(record, "where it writes is not known", now)
        try:
            return output.shortened(record, await self._files.download(record.log_path), now)
        except NotFound as error:
            self._tried[record.agent] += 1
            return _nothing(record, str(error), now) if self._tried[record.agent] >= TRIES else None
        except Transient as error:
            log.info("%s: its output comes later: %s", record.agent, error)
            return None
        except NacreError as error:
            return _nothing(record, str(error), now)


def _nothing(record: JobAgent, problem: str, now: datetime) -> AgentLog:
    log.warning("%s: its output cannot be fetched: %s", record.agent, problem)
    return AgentLog(agent=record.agent, path=record.log_path, fetched_at=now, problem=problem)

"""The answers of the bus itself to what pages and commands ask: read when asked, nothing kept."""

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import msgspec

from libs.bus.connection import Bus, Seen
from libs.events import subjects
from libs.events.messages import JobAgent, NodeCleared, NodeSuspected, Submission, SubmissionDecided
from libs.events.rows import PREFIX, Stream
from libs.runtime import clock
from libs.runtime.errors import Refused
from services.operator_console.house import House
from services.operator_console.reader import AgentQuery, matching
from services.operator_console.sight import look
from services.operator_console.timeline import Recorded

# The demand that led to a submission is older than its name says.
BEFORE = timedelta(minutes=10)
LOGS = (subjects.SUBMISSIONS, subjects.JOB_AGENTS, subjects.NODES, subjects.WISHES, subjects.CREDENTIALS)


class BusReader:
    """Reads over one connection; see `Reader`."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def house(self) -> House:
        """Everything as it is known now."""
        return await look(self._bus)

    async def agents(self, query: AgentQuery) -> list[JobAgent]:
        """The newest job agents that match."""
        entries = await self._bus.bucket(subjects.JOB_AGENTS_BUCKET).everything()
        return matching((entry.record for entry in entries.values()), query)

    async def agent(self, agent: str) -> JobAgent | None:
        """One job agent's record. Refused when that cannot be a name."""
        entry = await self._bus.bucket(subjects.JOB_AGENTS_BUCKET).read(_checked(agent))
        return None if entry is None else entry.record

    async def story(self, agent: str) -> list[Recorded]:
        """The logs since shortly before the submission was made, whose name holds that instant."""
        stamp = re.search(r"-(\d{8}t\d{6})-", _checked(agent))
        if stamp is None:
            raise Refused(f"{agent} is no job agent: its name is nacre-<ce>-<instant>-<random>.<array index>")
        since = datetime.strptime(stamp[1], "%Y%m%dt%H%M%S").replace(tzinfo=UTC) - BEFORE
        return [one async for one in self._history((subjects.SUBMISSIONS, subjects.JOB_AGENTS), f"{PREFIX}.>", since)]

    async def decisions(self, ce: str, since: datetime) -> list[SubmissionDecided]:
        """One CE's decisions since an instant, oldest first; what does not decode is left out."""
        pattern = subjects.SUBMISSION_DECIDED.subject(_checked(ce))
        found = []
        async for one in self._history((subjects.SUBMISSIONS,), pattern, since):
            try:
                found.append(msgspec.json.decode(one.body, type=SubmissionDecided))
            except msgspec.MsgspecError:
                continue
        return found

    async def submissions(self) -> list[Submission]:
        """Every submission on record, oldest first."""
        entries = await self._bus.bucket(subjects.SUBMISSIONS_BUCKET).everything()
        return sorted((entry.record for entry in entries.values()), key=lambda one: one.intended_at)

    async def nodes(self) -> list[NodeSuspected]:
        """The nodes that are suspected now: of each the last word, unless it is over."""
        last: dict[str, NodeSuspected | NodeCleared] = {}
        async for one in self._history((subjects.NODES,), f"{PREFIX}.>", clock.now() - timedelta(days=30)):
            suspected = one.subject.endswith(f".{subjects.NODE_SUSPECTED.name}")
            kind: type[NodeSuspected | NodeCleared] = NodeSuspected if suspected else NodeCleared
            try:
                event = msgspec.json.decode(one.body, type=kind)
            except msgspec.MsgspecError:
                continue
            last[f"{event.machine}/{event.node}"] = event
        now = clock.now()
        return [event for event in last.values() if isinstance(event, NodeSuspected) and event.until > now]

    async def events(self, since: datetime, *, follow: bool) -> AsyncIterator[Recorded]:
        """Messages of the logs since an instant, in the order of each log, then those that are published."""
        async for one in self._history(LOGS, f"{PREFIX}.>", since):
            yield one
        if follow:
            async for seen in self._bus.tap(asyncio.Event()):
                if f".{subjects.MONITORING_RECEIVED.name}." not in seen.subject:
                    yield _recorded(seen)

    async def _history(self, streams: tuple[Stream, ...], pattern: str, since: datetime) -> AsyncIterator[Recorded]:
        for stream in streams:
            async for seen in self._bus.history(stream, pattern, since):
                yield _recorded(seen)


def _recorded(seen: Seen) -> Recorded:
    return Recorded(subject=seen.subject, trace=seen.trace, body=msgspec.Raw(seen.body))


def _checked(name: str) -> str:
    """A name that may stand in a subject or key; Refused else, so that nothing hostile reaches NATS."""
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,200}", name):
        raise Refused(f"{name[:80]!r} is no name of ours")
    return name

"""What pages and commands ask of the house, whoever answers: the bus itself, or a console over HTTP."""

from collections.abc import AsyncIterator, Iterable
from datetime import datetime
from typing import Protocol

import msgspec

from libs.events.messages import JobAgent, NodeSuspected, Submission, SubmissionDecided
from services.operator_console.house import House
from services.operator_console.timeline import Recorded

AGENTS_AT_MOST = 10_000


class AgentQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which job agents: every condition given holds. `search` is a piece of the agent, Slurm id, node or verdict."""

    ce: str = ""
    state: str = ""
    node: str = ""
    search: str = ""
    since: datetime | None = None
    limit: int = 100


class Reader(Protocol):
    """Raises the tree's Transient errors when nobody answers, Refused when we are not let in."""

    async def house(self) -> House:
        """Everything as it is known now."""
        ...

    async def agents(self, query: AgentQuery) -> list[JobAgent]:
        """The newest job agents that match, at most `query.limit`."""
        ...

    async def agent(self, agent: str) -> JobAgent | None:
        """One job agent's record, None when there is none."""
        ...

    async def story(self, agent: str) -> list[Recorded]:
        """Every message that may tell of one job agent."""
        ...

    async def decisions(self, ce: str, since: datetime) -> list[SubmissionDecided]:
        """One CE's decisions since an instant, oldest first."""
        ...

    async def submissions(self) -> list[Submission]:
        """Every submission on record, oldest first."""
        ...

    async def nodes(self) -> list[NodeSuspected]:
        """The nodes that are suspected now."""
        ...

    def events(self, since: datetime, *, follow: bool) -> AsyncIterator[Recorded]:
        """Messages of the logs since an instant, then, when followed, each that is published."""
        ...


def matching(agents: Iterable[JobAgent], query: AgentQuery) -> list[JobAgent]:
    """The newest that match. Pure."""
    needle = query.search.lower()
    found = [
        agent
        for agent in agents
        if (not query.ce or agent.ce == query.ce)
        and (not query.state or agent.state == query.state)
        and (not query.node or query.node in agent.nodes)
        and (query.since is None or _begin(agent) >= query.since)
        and (not needle or needle in f"{agent.agent} {agent.job_id} {agent.nodes} {agent.verdict}".lower())
    ]
    found.sort(key=lambda agent: (_begin(agent), agent.agent), reverse=True)
    return found[: max(0, min(query.limit, AGENTS_AT_MOST))]


def _begin(agent: JobAgent) -> datetime:
    return agent.submit_at or agent.first_listed_at

"""Say which worker nodes job agents fail on, and when they are believed again."""

import logging

import msgspec

from libs.bus.connection import Bus, Mirror
from libs.events import subjects
from libs.events.messages import JobAgent, NodeCleared, NodeSuspected
from libs.runtime import clock
from services.status_tracker.rules import suspicion
from services.status_tracker.rules.suspicion import Suspect

EVERY_S = 60.0

log = logging.getLogger(__name__)


class NodeWatch:
    """One machine's nodes. What was said before is read from the log at the first step."""

    def __init__(self, machine: str, bus: Bus, agents: Mirror[JobAgent]) -> None:
        self._machine = machine
        self._bus = bus
        self._agents = agents
        self._announced: dict[str, Suspect] | None = None
        self._too_many = False

    async def step(self) -> None:
        """Judge the nodes anew, and say what changed. Raises the bus's Transient errors."""
        if self._announced is None:
            self._announced = await self._said_before()
        now = clock.now()
        records = (one.record for one in self._agents.entries.values() if one.record.machine == self._machine)
        found = suspicion.judged(records, now)
        if found.too_many and not self._too_many:
            log.warning("%s: %d nodes look bad at once: nobody new is suspected", self._machine, len(found.suspects))
        self._too_many = found.too_many
        new, cleared, standing = suspicion.changed(self._announced, found, now)
        at, by, machine = now, self._bus.by, self._machine
        for one in new:
            event = NodeSuspected(
                at=at, by=by, machine=machine, node=one.node, until=one.until, why=one.why, agents=list(one.agents)
            )
            identity = f"{machine}/{one.node} suspected until {one.until.isoformat()}"
            await self._bus.publish(subjects.NODE_SUSPECTED, machine, event, msg_id=identity)
            log.warning("%s: suspected until %s: %s", one.node, f"{one.until:%Y-%m-%d %H:%M} UTC", one.why)
        for node, why in cleared:
            identity = f"{machine}/{node} cleared {self._announced[node].until.isoformat()}"
            told = NodeCleared(at=at, by=by, machine=machine, node=node, why=why)
            await self._bus.publish(subjects.NODE_CLEARED, machine, told, msg_id=identity)
            log.info("%s: believed again: %s", node, why)
        self._announced = standing

    async def _said_before(self) -> dict[str, Suspect]:
        since = clock.now() - suspicion.SUSPECTED_FOR - suspicion.LOOKED_BACK
        announced: dict[str, Suspect] = {}
        pattern = subjects.NODE_SUSPECTED.subject(self._machine).rpartition(".")[0] + ".*"
        async for seen in self._bus.history(subjects.NODES, pattern, since):
            try:
                if seen.subject == subjects.NODE_SUSPECTED.subject(self._machine):
                    one = msgspec.json.decode(seen.body, type=NodeSuspected)
                    announced[one.node] = Suspect(node=one.node, until=one.until, why=one.why, agents=tuple(one.agents))
                else:
                    announced.pop(msgspec.json.decode(seen.body, type=NodeCleared).node, None)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                log.error("%s holds what is no event of a node: %s", seen.subject, error)
        return announced

"""Which worker nodes job agents fail on. Pure: records and `now` in, suspects out.

A node is suspected when its last agents, without a good one after them, ended early and badly: two of them, or one
whose end names the node itself, or one that is silent. It expires by itself, and is cleared by an agent that does well
there. When many nodes look bad at once it is not the nodes, and nobody new is suspected.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

import msgspec

from libs.events.messages import JobAgent
from libs.runtime.errors import Malformed
from libs.slurm.hostlists import expanded

# Older ends say nothing of a node any more.
LOOKED_BACK = timedelta(hours=6)
SUSPECTED_FOR = timedelta(hours=4)
# An agent that ends within so long after its start never got to work.
EARLY = timedelta(minutes=5)
ENOUGH = 2
# A suspicion that stands is told again when it lasts so much longer.
PROLONGED_BY = timedelta(hours=1)
# Endings that lie with the node when they come early, and those that name it by themselves.
BAD = frozenset({"failed", "killed", "out_of_memory", "no_java", "no_directory"})
OF_THE_NODE = frozenset({"node_failed", "no_cvmfs"})
# Beyond this share of the nodes that had agents lately (but at least so many) it is not the nodes.
SHARE, AT_LEAST = 0.1, 3


class Suspect(msgspec.Struct, frozen=True, kw_only=True):
    """A node to avoid until an instant, why, and the agents that say so."""

    node: str
    until: datetime
    why: str
    agents: tuple[str, ...]


class Nodes(msgspec.Struct, frozen=True, kw_only=True):
    """What the records say: suspects by node, and nodes on which an agent does well, with that agent.

    `too_many`: so many nodes look bad that none of them is believed to be.
    """

    suspects: dict[str, Suspect]
    good: dict[str, str]
    too_many: bool


class _Sign(msgspec.Struct, frozen=True):
    at: datetime
    bad: bool
    weight: int
    agent: str
    words: str


def judged(records: Iterable[JobAgent], now: datetime) -> Nodes:
    """The nodes as their agents of the last hours show them."""
    signs: dict[str, list[_Sign]] = {}
    for record in records:
        sign = _sign(record, now)
        if sign is not None and now - sign.at <= LOOKED_BACK:
            for node in _nodes(record):
                signs.setdefault(node, []).append(sign)
    suspects: dict[str, Suspect] = {}
    good: dict[str, str] = {}
    for node, of_node in signs.items():
        of_node.sort(key=lambda one: one.at)
        last_good = max((place for place, one in enumerate(of_node) if not one.bad), default=-1)
        if last_good >= 0:
            good[node] = of_node[last_good].agent
        since = of_node[last_good + 1 :]
        if sum(one.weight for one in since) >= ENOUGH:
            suspects[node] = Suspect(
                node=node,
                until=since[-1].at + SUSPECTED_FOR,
                why=since[-1].words if len(since) == 1 else f"{since[-1].words}, and {len(since) - 1} more before",
                agents=tuple(one.agent for one in since[-5:]),
            )
    return Nodes(suspects=suspects, good=good, too_many=len(suspects) > max(AT_LEAST, SHARE * len(signs)))


def changed(
    announced: Mapping[str, Suspect], found: Nodes, now: datetime
) -> tuple[list[Suspect], list[tuple[str, str]], dict[str, Suspect]]:
    """What is to be announced: nodes newly suspected, nodes cleared (with why), and what then stands announced."""
    standing = {node: one for node, one in announced.items() if one.until > now}
    cleared = [
        (node, f"{found.good[node]} does well there")
        for node in standing
        if node in found.good and node not in found.suspects
    ]
    for node, _ in cleared:
        del standing[node]
    new: list[Suspect] = []
    for node, suspect in found.suspects.items():
        known = standing.get(node)
        longer = known is None or suspect.until - known.until >= PROLONGED_BY
        if suspect.until > now and longer and not found.too_many:
            new.append(suspect)
            standing[node] = suspect
    return new, cleared, standing


def _sign(record: JobAgent, now: datetime) -> _Sign | None:
    """What one agent says about its node; None when it says nothing."""
    if record.state == "running":
        if record.activity == "silent":
            return _Sign(now, True, ENOUGH, record.agent, "an agent runs and is silent")
        return _Sign(now, False, 0, record.agent, "") if record.activity == "working" else None
    if record.state != "ended" or record.start_at is None or record.end_at is None:
        return None
    early = record.end_at - record.start_at <= EARLY
    if record.ending in OF_THE_NODE:
        return _Sign(record.end_at, True, ENOUGH, record.agent, record.verdict)
    if record.ending in BAD and early:
        return _Sign(record.end_at, True, 1, record.agent, f"{record.verdict} after a short time")
    if record.grid_jobs_total or (record.ending == "completed" and not early):
        return _Sign(record.end_at, False, 0, record.agent, "")
    return None


def _nodes(record: JobAgent) -> tuple[str, ...]:
    try:
        return expanded(record.nodes)
    except Malformed:
        return ()

"""The demo, disturbed: `make demo KILL=1` kills each service and nats-server in turn, and accounts for every datagram.

A datagram that is sent while no relay listens is lost, as UDP is: the kernel counts it. One that was on its way through
the relay when it was killed may be lost, too, or may be sent twice: at most what one relay has in hand at a time.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.e2e.house import SERVICES, House

GRID_JOBS_EACH = 8
RUN_S = 4.0
AT_WORK = 3
DOWN_S = 1.0
READY_S = 30.0
NATS = "nats"
VICTIMS = (*SERVICES, NATS)
GRID_JOBS = GRID_JOBS_EACH * len(VICTIMS)
# A batch of the relay's: what it has read and not yet published (services/monitoring_relay/receive.py).
IN_HAND_AT_MOST = 64
SNMP = Path("/proc/net/snmp")


class Killing:
    """Kills and restarts while grid jobs keep coming; `found` tells of the datagrams in the end."""

    def __init__(self, house: House, say: Callable[[str], None]) -> None:
        self._house = house
        self._say = say
        self._unheard_before = unheard()

    async def run(self) -> None:
        """Each victim once. TimeoutError when one does not come back."""
        for victim in VICTIMS:
            body = {"ce": self._house.ce_name, "count": GRID_JOBS_EACH, "run_s": RUN_S}
            await asyncio.to_thread(self._house.central, "/grid_jobs", body)
            await self._agents_at_work()
            self._say(f"kill -9 {victim}")
            await asyncio.to_thread(self._kill, victim)
            await asyncio.sleep(DOWN_S)
            await asyncio.to_thread(self._start, victim)
            await asyncio.to_thread(self._house.wait_ready, READY_S)

    async def _agents_at_work(self) -> None:
        """A kill while nothing runs would prove little."""
        async with asyncio.timeout(READY_S):
            while (await asyncio.to_thread(self._house.central, "/counts"))["running"] < AT_WORK:
                await asyncio.sleep(0.1)

    def _kill(self, victim: str) -> None:
        if victim == NATS:
            self._house.nats.kill()
        else:
            self._house.kill_service(victim)

    def _start(self, victim: str) -> None:
        if victim == NATS:
            self._house.nats.start()
        else:
            self._house.start_service(victim)

    def datagrams(self, sent: int) -> dict[str, int]:
        """Of the datagrams that agents sent: stored at least once, lost, and where; and those stored twice."""
        stored = of_agents(self._house.monalisa("/stored")["results"])
        without_relay = unheard() - self._unheard_before
        lost = sent - len(stored)
        return {
            "stored_by_monalisa": len(stored),
            "stored_twice": stored.total() - len(stored),
            "lost": lost,
            "lost_without_a_relay": without_relay,
            "lost_in_its_hands": lost - without_relay,
            "dropped": self._house.metric("monitoring_relay", "nacre_relay_dropped_total"),
        }


def accounted_for(datagrams: dict[str, int]) -> bool:
    """True when the losses are those that the kernel counted, but for what the killed relay had in its hands."""
    return 0 <= datagrams["lost_in_its_hands"] <= IN_HAND_AT_MOST and datagrams["dropped"] == 0


def of_agents(results: list[dict[str, Any]]) -> Counter[tuple[Any, ...]]:
    """How often each datagram of a job agent was stored; the sender's instance and its number tell them apart."""
    return Counter((one["instance"], one["seq"]) for one in results if "_CE_" not in one["cluster"])


def unheard() -> int:
    """Datagrams that reached a port of this machine on which nobody listened, since it was started."""
    names, values = (line.split() for line in SNMP.read_text().splitlines() if line.startswith("Udp:"))
    return int(dict(zip(names, values, strict=True))["NoPorts"])

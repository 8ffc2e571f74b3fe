"""A day of one-hour job agents on a whole machine, tracked: `python -m tests.e2e.tracked_day [--share 0.01]`.

3,000 nodes, 24 model hours, 72,000 agents, the model Slurm at 180 times the speed, the tracker as a process of its own.
Among the agents are some that fail, lack CVMFS, run into their time limit, are void, lose their node, or are cancelled
while they wait or run, single tasks out of their array among them. In the end the tracker's count of endings must be
that of the model's own ledger. Prints one JSON object; the exit code is 0 only when they are equal.
"""

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from libs.bus.connection import Latest
from libs.events import subjects
from libs.events.messages import BatchQueueObserved, Submission
from tests.e2e.tracking import CE, Stand, standing
from tests.world.processes import REPOSITORY

NODES, HOURS, SPEED = 3000, 24, 180.0
ARRAY = 500
USUAL_S = 60.0
# What an array of agents does: options of sbatch and the synthetic plan, by how often it happens.
KINDS: tuple[tuple[int, tuple[str, ...], str, float], ...] = (
    (14, ("-t 120",), "run_s=3600", 3600),
    (2, ("-t 120",), "run_s=3600 exit_code=3", 3600),
    (1, ("-t 120",), "run_s=60 exit_code=86", 3600),
    (2, ("-t 60",), "run_s=7200", 3600),
    (1, ("-t 120",), "run_s=3600", -60),
)

ENDINGS = {"COMPLETED": "completed", "TIMEOUT": "time_limit", "NODE_FAIL": "node_failed", "CANCELLED": "cancelled"}


class Day:
    """The one who submits: keeps the machine full, and cancels some."""

    def __init__(self, stand: Stand, queue: Latest[BatchQueueObserved], agents: int, nodes: int, seed: int) -> None:
        self._stand = stand
        self._queue = queue
        self._agents = agents
        self._nodes = nodes
        self._chance = random.Random(seed)
        self._arrays: list[tuple[str, int]] = []
        self._unlisted: list[tuple[float, int]] = []
        self.submitted = 0

    async def fill(self) -> None:
        """Submit until all agents are submitted."""
        while self.submitted < self._agents:
            array = min(ARRAY, max(1, self._nodes // 6), self._agents - self.submitted)
            room = self._nodes + 2 * array - self._active()
            if room >= array:
                await self._submit(array)
            else:
                await asyncio.sleep(0.05)

    def _active(self) -> int:
        seen = self._queue.value
        if seen is None or seen.queued is None:
            return self.submitted
        listed_s = seen.listed_at.timestamp()
        self._unlisted = [(at_s, agents) for at_s, agents in self._unlisted if at_s > listed_s]
        active = (seen.queued or 0) + (seen.running or 0) + (seen.unaccounted or 0)
        return active + sum(agents for _, agents in self._unlisted)

    async def _submit(self, agents: int) -> None:
        weights = [weight for weight, *_ in KINDS]
        _, options, plan, void_in_s = self._chance.choices(KINDS, weights)[0]
        word = f"{self._chance.getrandbits(48):012x}"
        job_id = await self._stand.submitted(word, agents, *options, "--no-requeue", plan=plan, void_in_s=void_in_s)
        self._unlisted.append((time.time(), agents))
        self.submitted += agents
        self._arrays.append((job_id, agents))
        if self._chance.random() < 0.3:
            some = self._chance.sample(range(agents), max(1, agents // 50))
            await self._stand.cancel(*(f"{job_id}_{index}" for index in some))
        if self._chance.random() < 0.05:
            await self._stand.cancel(self._chance.choice(self._arrays)[0])


def ending_of(row: dict[str, Any]) -> str:
    """How the tracker should call the end of a row of the ledger."""
    if row["state"] == "FAILED":
        return {85: "void", 86: "no_cvmfs"}.get(row["exit_code"], "failed")
    return ENDINGS.get(row["state"], f"Slurm's {row['state']}")


async def counted(stand: Stand) -> Counter[str]:
    """What the tracker has: its summaries, and the records that are not in them yet."""
    found: Counter[str] = Counter()
    for day in (await stand.bus.bucket(subjects.AGENT_DAYS_BUCKET).everything()).values():
        found.update(day.record.endings)
    for entry in (await stand.bus.bucket(subjects.JOB_AGENTS_BUCKET).everything()).values():
        found[entry.record.ending or entry.record.state] += 1
    return found


async def _settled(stand: Stand, queue: Latest[BatchQueueObserved], agents: int) -> Counter[str]:
    """Wait until the tracker counts nobody as active and as many ends as there were agents."""
    found: Counter[str] = Counter()
    deadline_s = time.monotonic() + 180
    while time.monotonic() < deadline_s:
        await asyncio.sleep(0.5)
        seen = queue.value
        if seen is not None and (seen.queued, seen.running, seen.unaccounted) == (0, 0, 0):
            found = await counted(stand)
            if sum(found.values()) == agents:
                return found
    return found


async def _books_closed(stand: Stand, stop: asyncio.Event) -> None:
    """As the submitter does after days: submissions all of whose agents are over leave, here after two model hours."""
    bucket = stand.bus.bucket(subjects.SUBMISSIONS_BUCKET)
    async with stand.bus.mirror(subjects.JOB_AGENTS_BUCKET) as agents:
        while not stop.is_set():
            await asyncio.sleep(5)
            over = Counter(one.record.submission for one in agents.entries.values() if one.record.state == "ended")
            for name, entry in (await bucket.everything()).items():
                record: Submission = entry.record
                if over[name] == record.agents and time.time() - record.changed_at.timestamp() > 7200 / SPEED:
                    await bucket.delete(name, entry.revision)


async def run(folder: Path, *, nodes: int, hours: int, speed: float, seed: int) -> dict[str, Any]:
    """The whole day; what came of it."""
    agents = nodes * hours
    failures = ("--node-failures-s", str(3 * 3600 * 3000 / max(nodes, 30) / 100), "--seed", str(seed))
    world = ("--nodes", str(nodes), "--submit-limit", str(10 * agents), "--speed", str(speed), *failures)
    async with standing(folder, *world) as stand, stand.bus.latest(subjects.BATCH_QUEUE_OBSERVED, CE) as queue:
        stand.start_tracker(listing_interval_s=USUAL_S / speed)
        began_s = time.monotonic()
        stop = asyncio.Event()
        closing = asyncio.create_task(_books_closed(stand, stop))
        day = Day(stand, queue, agents, nodes, seed)
        await day.fill()
        found = await _settled(stand, queue, agents)
        took_s = time.monotonic() - began_s
        stop.set()
        await closing
        ledger = await asyncio.to_thread(stand.facility.admin, "GET", "/ledger")
        truth = Counter(ending_of(row) for row in ledger)
        return {
            "agents": agents, "nodes": nodes, "hours": hours, "speed": speed, "seed": seed, "s": round(took_s, 1),
            "equal": found == truth, "tracker": dict(sorted(found.items())), "ledger": dict(sorted(truth.items())),
            "listings": stand.metric("nacre_listings_total"), "tracker_cpu_s": stand.cpu_s(),
            "tracker_peak_mb": stand.peak_mb(),
            "kv_writes_per_agent": round(await stand.stored("KV_job_agents") / agents, 2),
            "events_per_agent": round(await stand.stored("JOB_AGENTS") / agents, 2),
        }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; 0 only when the counts are equal."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.tracked_day", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--share", type=float, default=1.0, help="of the machine's nodes")
    parser.add_argument("--hours", type=int, default=HOURS)
    parser.add_argument("--speed", type=float, default=SPEED, help="model seconds in a second")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    nodes = max(6, round(NODES * options.share))
    folder = REPOSITORY / "build" / "tracked-day"
    found = asyncio.run(run(folder, nodes=nodes, hours=options.hours, speed=options.speed, seed=options.seed))
    sys.stdout.write(json.dumps(found) + "\n")
    return 0 if found["equal"] else 1


if __name__ == "__main__":
    sys.exit(main())

"""What becomes of agents on a real Slurm when nodes, limits, people and slurmctld itself get in their way."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from libs.bus.connection import Bus
from tests.integration.status_tracker.house import House, standing
from tests.nats_server import NatsServer
from tests.world.processes import start
from tests.world.slurm.cluster import Cluster, missing_programs

# A node that does not answer is given up after so long; Slurm looks at time limits and at nodes every half minute.
SETTINGS = {"SlurmdTimeout": "10"}
SLEEP = "sleep 600"


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A real Slurm whose daemons may be killed; skips where none is installed."""
    if missing := missing_programs():
        pytest.skip(f"no real Slurm here (missing: {' '.join(missing)})")
    one = Cluster(tmp_path_factory.mktemp("slurm"), nodes=7, cpus=4, settings=SETTINGS)
    try:
        one.start()
        yield one
    finally:
        one.stop()


@pytest.fixture
async def house(tmp_path: Path, cluster: Cluster, bus: Bus, nats_server: NatsServer) -> AsyncIterator[House]:
    """The API over it, and a site."""
    slurm: dict[str, Any] = cluster.ready()
    arguments = ["--state", str(tmp_path / "facility"), "--slurm", "real"]
    arguments += ["--user", slurm["user"], "--account", slurm["account"]]
    with start("tests.world.superfacility", *arguments, env=slurm["environment"]) as (_, ready):
        async with standing(tmp_path, ready, bus, nats_server.url, settle_time_s=30, listing_lag_s=5) as house:
            yield house


def name(word: str) -> str:
    return f"nacre-cpu-{datetime.now(UTC):%Y%m%d}t000000-{word}"


async def submit(house: House, word: str, line: str, *options: str, agents: int = 1) -> str:
    job_id = await house.submit(name(word), line, agents=agents, options=options)
    await house.note(name(word), "accepted", agents=agents, job_id=job_id)
    return job_id


async def slurm(cluster: Cluster, *words: str) -> str:
    return await asyncio.to_thread(cluster.run, *words)


@pytest.mark.slurm
@pytest.mark.timeout(170)
async def test_each_verdict_is_right(house: House, cluster: Cluster) -> None:
    """Finished, over its limit, on a node that died, requeued from one, cancelled from outside, and through a crash."""
    limited = await submit(house, "limit", SLEEP, "-t 1")
    for word, option in {"dies": "--no-requeue", "again": "--requeue"}.items():
        await submit(house, word, SLEEP, option)
    outside = await submit(house, "outside", SLEEP)
    await submit(house, "keeps", SLEEP)
    await submit(house, "waits", "true", "-H", agents=3)
    await submit(house, "done", "sleep 2; exit 3")
    async with house.tracking():
        at = {word: await house.agent_in("running", name(word), timeout_s=40) for word in ("dies", "again", "limit")}
        await house.agent_in("running", name("keeps"))
        await slurm(cluster, "scontrol", "update", f"JobId={limited}_0", "EndTime=now+1")
        await slurm(cluster, "scancel", outside)
        for word in ("dies", "again"):
            await asyncio.to_thread(cluster.crash_node, at[word].nodes)
        over = await house.agent_in("ended", name("outside"))
        assert (over.ending, over.verdict) == ("cancelled", "cancelled by user id 0")
        over = await house.agent_in("ended", name("done"))
        assert (over.ending, over.exit_code, over.verdict[:32]) == ("failed", 3, "failed with exit code 3 on nid00")

        over = await house.agent_in("ended", name("limit"), timeout_s=60)
        assert (over.ending, over.verdict) == ("time_limit", "ended by its time limit")
        over = await house.agent_in("ended", name("dies"), timeout_s=60)
        assert (over.ending, over.verdict) == ("node_failed", f"node failed on {at['dies'].nodes}")
        again = await house.agent_in("queued", name("again"), timeout_s=60)
        assert (again.run, again.nodes, again.verdict) == (1, "", "")

        before = [await house.agent(name("keeps")), await house.agent(name("waits"), 2)]
        # What it acknowledged is saved within some seconds; all of this is older.
        await asyncio.to_thread(cluster.crash_controller)
        back_at = datetime.now(UTC)
        seen = await house.counts(lambda one: one.listed_at > back_at and one.running == 1, timeout_s=40)
        assert (seen.queued, seen.unaccounted, seen.strangers) == (4, 0, 0)
        assert [await house.agent(name("keeps")), await house.agent(name("waits"), 2)] == before
        for word in ("limit", "dies", "outside", "done"):
            assert (await house.agent_in("ended", name(word))).run == 0

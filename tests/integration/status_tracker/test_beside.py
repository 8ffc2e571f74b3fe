"""What the tracker does beside listing: datagrams, nodes, logs, the facility, several agents per batch job."""

import asyncio
import time
from datetime import timedelta
from typing import Any

import pytest

from libs.apmon import batches, report
from libs.apmon.batches import Received, packed_address
from libs.bus.connection import Bus
from libs.events import subjects
from libs.events.messages import AgentLog, FetchLog, JobAgent, Wish
from libs.runtime import clock
from services.status_tracker.keeping import logs
from services.status_tracker.nodes import NodeWatch
from tests.integration.status_tracker.house import House
from tests.unit.status_tracker.made import NAME, record

AGENTS, JOBS = "ALIEN_alien.site.JobAgent_Nodes", "ALICE::Perlmutter::CPU_Jobs"


def name(word: str) -> str:
    return f"nacre-cpu-20261123t030000-{word}"


async def send(bus: Bus, *datagrams: tuple[str, str, dict[str, Any]]) -> None:
    """Publish datagrams as the relay would."""
    received = [
        Received(time.time_ns(), packed_address("192.0.2.1"), 5000, body)
        for number, (cluster, node, values) in enumerate(datagrams)
        for body in report.encode(cluster, node, values, instance=1, sequence=number + 1)
    ]
    await send_bytes(bus, batches.encode(received))


async def send_bytes(bus: Bus, body: bytes) -> None:
    await bus.publish_bytes(subjects.MONITORING_RECEIVED, "site", "relay-1", body, str(time.time_ns()))


async def until(house: House, word: str, holds: Any, index: int = 0) -> JobAgent:
    async with asyncio.timeout(30):
        while (found := await house.agent(name(word), index)) is None or not holds(found):
            await asyncio.sleep(0.05)
    return found


async def test_what_its_datagrams_tell(house: House, bus: Bus) -> None:
    """An agent works on a grid job that its record names, its verdict says so, and rubbish harms nobody."""
    job_id = await house.submit(name("run"), "sleep 60")
    await house.note(name("run"), "accepted", job_id=job_id)
    async with house.tracking():
        runs = await house.agent_in("running", name("run"))
        assert (runs.activity, runs.grid_jobs, runs.monitored_at) == ("unknown", [], None)
        await send_bytes(bus, b"\0\0\0\5rubbish")
        await send(bus, ("Site_CE_x", "ce.example.org", {"jobAgents_queued": 1}), ("TEST", "x", {"a": "b"}))
        await send(bus, (AGENTS, f"{runs.nodes}.chn:17:0", {"ja_status": 1}))
        heard = await until(house, "run", lambda one: one.activity == "idle")
        assert heard.fruitless == 1
        await send(bus, (AGENTS, f"{runs.nodes}:17:0", {"job_id": 3_000_000_001}), (JOBS, "3000000001", {"status": 10}))
        works = await until(house, "run", lambda one: one.activity == "working")
        assert (works.grid_jobs, works.grid_jobs_total, works.fruitless) == ([3_000_000_001], 1, 0)
        seen = await house.counts(lambda one: one.working == 1)
        assert (seen.silent, seen.idle, seen.running) == (0, 0, 1)
        await house.client.cancel(job_id)
        over = await house.agent_in("ended", name("run"))
        assert over.verdict.startswith("cancelled") and over.verdict.endswith("after 1 grid job")
        assert over.grid_jobs == [3_000_000_001]


async def test_several_agents_in_a_batch_job(house: House) -> None:
    """Each node's agent has its record and its node; the batch queue has one batch job for two agents."""
    job_id = await house.submit(name("two"), "sleep 60", agents=2, options=("-N 2",))
    await house.note(name("two"), "accepted", agents=4, job_id=job_id, agents_per_job=2)
    async with house.tracking():
        seen = await house.counts(lambda one: one.running == 4)
        assert (seen.user_jobs_by_qos, seen.queued, seen.unaccounted) == ({"regular": 2}, 0, 0)
        bucket = bus_records(house)
        found = {key: entry.record for key, entry in (await bucket.everything()).items()}
        assert sorted(found) == [f"{name('two')}.{index}.{rank}" for index in (0, 1) for rank in (0, 1)]
        assert len({one.nodes for one in found.values()}) == 4
        await house.client.cancel(job_id)
        await house.counts(lambda one: one.running == 0)
        over = [entry.record for entry in (await bucket.everything()).values()]
        assert {one.state for one in over} == {"ended"} and all((one.node_hours or 0) >= 0 for one in over)


def bus_records(house: House) -> Any:
    return house.bus.bucket(subjects.JOB_AGENTS_BUCKET)


async def test_the_output_of_a_failed_agent(house: House, bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fetched by the API, without its secrets; a good agent's is not, unless an operator wishes to see it."""
    monkeypatch.setattr(logs, "EVERY_S", 0.2)
    at = f"-o {house.folder}/%x-%a.out"
    lines = {"bad": "echo token=sesame; exit 3", "good": "echo all is well", "mute": "exit 4"}
    for word, line in lines.items():
        job_id = await house.submit(name(word), line, options=(at,) if word != "mute" else ())
        await house.note(name(word), "accepted", job_id=job_id)
    stored = bus.bucket(subjects.AGENT_LOGS_BUCKET)

    async def log_of(word: str) -> AgentLog:
        async with asyncio.timeout(30):
            while (entry := await stored.read(f"{name(word)}.0")) is None:
                await asyncio.sleep(0.05)
        return entry.record  # type: ignore[no-any-return]

    async with house.tracking():
        bad = await log_of("bad")
        assert (bad.head, bad.redacted, bad.problem) == ("token=[redacted]\n", 1, "")
        assert bad.path == f"{house.folder}/{name('bad')}-0.out"
        mute = await log_of("mute")
        assert mute.problem and not mute.head
        await house.agent_in("ended", name("good"))
        assert await stored.read(f"{name('good')}.0") is None
        wish = Wish(
            author="ann", reason="curious", made_at=clock.now(), expires_at=clock.now() + timedelta(hours=1),
            what=FetchLog(agent=f"{name('good')}.0"),
        )  # fmt: skip
        await bus.bucket(subjects.CONTROL_BUCKET).write(f"fetch_log.{name('good')}.0", wish, 0)
        assert (await log_of("good")).head == "all is well\n"
        revision = (await stored.read(f"{name('good')}.0")).revision  # type: ignore[union-attr]
        await asyncio.sleep(0.6)
        assert (await stored.read(f"{name('good')}.0")).revision == revision  # type: ignore[union-attr]


async def test_the_facilitys_account_and_api(house: House) -> None:
    """Our allocation with the instant it was asked for, and how the API answers; unknown when it does not say."""
    async with house.tracking():
        async with asyncio.timeout(20):
            while (said := house.facility.value) is None or not (said.allocations and said.api and said.api.requests):
                await asyncio.sleep(0.05)
        assert {one.account for one in said.allocations} == {house.ready["account"]}
        assert {one.kind for one in said.allocations} <= {"cpu", "gpu"}
        assert said.allocations_at is not None and said.api.latency_s_p50 is not None
        assert said.api.latency_s_max is not None and said.api.latency_s_p50 <= said.api.latency_s_max
        await house.admin("POST", "/_faults", kind="status", method="GET", path="/status/*", count=1000)
        async with asyncio.timeout(20):
            while not (house.facility.value.api.failures):  # type: ignore[union-attr]
                await asyncio.sleep(0.05)
        assert house.facility.value is not None and house.facility.value.allocations is not None


async def test_an_account_that_is_not_told_is_unknown(house: House) -> None:
    """Not zero hours, and the rest of the facility's word is not lost with it."""
    await house.admin("POST", "/_faults", kind="status", method="GET", path="/account/projects", count=1000)
    async with house.tracking():
        async with asyncio.timeout(20):
            while house.facility.value is None:
                await asyncio.sleep(0.05)
        said = house.facility.value
        assert (said.allocations, said.allocations_at, said.status) == (None, None, "active")


async def test_suspected_nodes_are_told_once_and_cleared(bus: Bus) -> None:
    """Also across a restart; who does well on the node clears it."""

    def ended(number: int, **changes: Any) -> JobAgent:
        now = clock.now()
        about: dict[str, Any] = {
            "agent": f"{NAME}.{number}", "slurm_state": "FAILED", "ending": "no_cvmfs", "verdict": "no CVMFS on nid7",
            "nodes": "nid7", "start_at": now - timedelta(seconds=9), "end_at": now,
        }  # fmt: skip
        return record("ended", **about | changes)

    async def told() -> list[Any]:
        pattern = "nacre.v1.perlmutter.node.*"
        since = clock.now() - timedelta(hours=1)
        return [seen.subject.rpartition(".")[2] async for seen in bus.history(subjects.NODES, pattern, since)]

    bucket = bus.bucket(subjects.JOB_AGENTS_BUCKET)
    async with bus.mirror(subjects.JOB_AGENTS_BUCKET) as agents:
        assert await agents.whole(asyncio.Event())
        watch = NodeWatch("perlmutter", bus, agents)
        await watch.step()
        one = ended(0)
        agents.note(one.agent, one, await bucket.write(one.agent, one, 0))
        await watch.step()
        await watch.step()
        await NodeWatch("perlmutter", bus, agents).step()
        assert await told() == ["suspected"]
        good = ended(1, slurm_state="COMPLETED", ending="completed", grid_jobs_total=1)
        agents.note(good.agent, good, await bucket.write(good.agent, good, 0))
        await NodeWatch("perlmutter", bus, agents).step()
        await watch.step()
        assert await told() == ["suspected", "cleared"]
        await NodeWatch("perlmutter", bus, agents).step()
        assert await told() == ["suspected", "cleared"]

"""The tracker on a real nats-server, in front of the world's API over the model Slurm."""

import asyncio

import msgspec
import pytest

from libs.bus import schema
from libs.bus.connection import Bus
from libs.events import subjects
from libs.runtime.errors import Misconfigured
from tests.integration.status_tracker.house import MACHINE, House
from tests.nats_server import NatsServer

# Both ways to a listing: with one of them alone, the other would be taken.
LISTINGS = "/[cu]*/perlmutter"


def name(word: str) -> str:
    return f"nacre-cpu-20261123t030000-{word}"


async def test_counts_and_records(house: House) -> None:
    """Queued and running agents, a stranger and the QOS are counted right, and each counted agent has a record."""
    await house.submit(name("run"), "sleep 60", agents=3)
    await house.submit(name("wait"), "sleep 60", agents=10, options=("-H",))
    await house.submit("stranger", "sleep 60", agents=2, options=("-H",))
    async with house.tracking():
        seen = await house.counts(lambda one: one.running == 3)
        assert (seen.queued, seen.unaccounted, seen.strangers) == (10, 0, 2)
        assert seen.user_jobs_by_qos == {"regular": 15}
        assert (seen.ce, seen.machine, seen.unknown_because) == ("cpu", MACHINE, "")
        # Who is counted has a record already: nothing to wait for.
        runs = await house.agent(name("run"), 2)
        assert runs is not None and runs.state == "running"
        assert (runs.nodes[:3], runs.qos, runs.verdict) == ("nid", "regular", "")
        assert runs.start_at is not None and runs.first_listed_at <= seen.listed_at
        assert await house.agent_in("queued", name("wait"), 9)
        assert await house.agent("stranger") is None


async def test_each_record_is_written_before_the_observation_that_counts_it(house: House, bus: Bus) -> None:
    """In the order of the streams no observation counts more agents than there were records before it."""
    async with house.tracking():
        await house.submit(name("one"), "sleep 30", agents=4)
        await house.counts(lambda one: (one.queued or 0) + (one.running or 0) == 4)
        first = min([(await house.agent_in("running", name("one"), index)).first_listed_at for index in range(4)])
        assert house.queue.value is not None and first <= house.queue.value.listed_at
        changed = await bus.js.get_last_msg("JOB_AGENTS", subjects.JOB_AGENT_CHANGED.subject("cpu"))
        assert changed.seq is not None and changed.seq >= 4


async def test_endings_with_exit_codes(house: House) -> None:
    """Each ending comes with its exit code and its plain words; 85 is void when it was submitted too late, not else."""
    lines = {"ok": "true", "bad": "exit 3", "void": "exit 85", "odd": "exit 85", "long": "sleep 60"}
    for word, line in lines.items():
        job_id = await house.submit(name(word), line)
        await house.note(name(word), "accepted", job_id=job_id, void_in_s=-60 if word == "void" else 600)
        if word == "long":
            long_id = job_id
    async with house.tracking():
        over = await house.agent_in("ended", name("ok"))
        assert (over.exit_code, over.verdict, over.void) == (0, "completed", False)
        assert over.end_at is not None
        over = await house.agent_in("ended", name("bad"))
        assert (over.exit_code, over.verdict.startswith("failed with exit code 3")) == (3, True)
        over = await house.agent_in("ended", name("void"))
        assert (over.exit_code, over.void, over.ending) == (85, True, "void")
        over = await house.agent_in("ended", name("odd"))
        assert (over.exit_code, over.void, over.ending) == (85, False, "failed")
        await house.agent_in("running", name("long"))
        await house.client.cancel(long_id)
        over = await house.agent_in("ended", name("long"))
        assert over.verdict.startswith("cancelled")
        seen = await house.next_counts()
        assert (seen.queued, seen.running, seen.unaccounted) == (0, 0, 0)


async def test_a_failing_api_is_unknown_never_zero(house: House) -> None:
    """503, ERROR in HTTP 200 and a closed connection each make the counts unknown; no record changes meanwhile."""
    await house.submit(name("run"), "sleep 60", agents=2)
    async with house.tracking():
        await house.counts(lambda one: one.running == 2)
        before = await house.agent(name("run"))
        for kind, words in {
            "status": "503",
            "error_200": "the facility says no",
            "close_after": "no whole answer",
        }.items():
            await house.admin("POST", "/_faults", kind=kind, path=LISTINGS, count=4)
            seen = await house.counts(lambda one, words=words: words in one.unknown_because)  # type: ignore[misc]
            assert (seen.queued, seen.running, seen.unaccounted, seen.user_jobs_by_qos) == (None,) * 4
            assert await house.agent(name("run")) == before
            await house.admin("DELETE", "/_faults")
            await house.counts(lambda one: one.running == 2)


async def test_a_restart_converges(house: House) -> None:
    """What ended while the tracker was down is found in sacct at its next start; what runs keeps its first listing."""
    short_id = await house.submit(name("short"), "sleep 6")
    await house.note(name("short"), "accepted", job_id=short_id)
    await house.submit(name("run"), "sleep 60")
    async with house.tracking():
        await house.agent_in("running", name("short"))
        before = await house.agent_in("running", name("run"))
    await asyncio.sleep(6)
    assert await house.agent_in("running", name("short"))
    async with house.tracking():
        over = await house.agent_in("ended", name("short"))
        assert over.verdict == "completed"
        await house.next_counts()
        assert await house.agent(name("run")) == before


async def test_a_job_shorter_than_a_cycle_is_found_by_its_submission(house: House) -> None:
    """Also an unclear submission whose only batch job ended before any listing gets its records, by name."""
    await house.submit(name("blink"), "true", agents=2)
    await asyncio.sleep(2)
    await house.note(name("blink"), "unclear", agents=2)
    async with house.tracking():
        over = await house.agent_in("ended", name("blink"), 1)
        assert (over.exit_code, over.submission, over.index) == (0, name("blink"), 1)


async def test_accepted_and_gone_is_unaccounted_then_forgotten(house: House) -> None:
    """What Slurm took and nothing shows counts as active until the settle time, then it is forgotten."""
    await house.note(name("lost"), "accepted", agents=2, job_id="4711")
    async with house.tracking():
        seen = await house.counts(lambda one: one.unaccounted == 2)
        assert (seen.queued, seen.running) == (0, 0)
        gone = await house.agent_in("forgotten", name("lost"), 1)
        assert "knows nothing of it" in gone.verdict
        assert gone.missing_since is not None
        await house.counts(lambda one: one.unaccounted == 0)


async def test_an_api_that_does_not_answer_forgets_nobody(house: House) -> None:
    """While listings fail, an absent agent stays what it was, however long."""
    await house.note(name("lost"), "accepted", agents=1, job_id="4711")
    async with house.tracking():
        await house.agent_in("unaccounted", name("lost"))
        await house.admin("POST", "/_faults", kind="status", path=LISTINGS, count=10_000)
        await asyncio.sleep(4)
        assert (await house.agent_in("unaccounted", name("lost"))).state == "unaccounted"
        await house.admin("DELETE", "/_faults")
        await house.agent_in("forgotten", name("lost"))


async def test_the_loss_of_the_whole_bus(house: House, bus: Bus, nats_server: NatsServer) -> None:
    """With every stream and bucket gone, all is recorded again from Slurm, sacct and the batch jobs' names alone."""
    await house.submit(name("run"), "sleep 60", agents=3)
    await house.submit(name("over"), "exit 3", agents=2)
    async with house.tracking():
        await house.counts(lambda one: one.running == 3)
        for stream in ("KV_job_agents", "KV_submissions", "JOB_AGENTS", "SUBMISSIONS", "LATEST"):
            await bus.js.delete_stream(stream)
        await schema.initialise(bus.js, 1)
        nats_server.stop()
        nats_server.start()
        for index in range(3):
            await house.agent_in("running", name("run"), index, timeout_s=40)
        seen = await house.next_counts()
        assert (seen.running, seen.unknown_because) == (3, "")
        over = await house.agent_in("ended", name("over"), 1)
        assert (over.exit_code, over.ending) == (3, "failed")


async def test_the_facilitys_word(house: House) -> None:
    """Status and planned outages are published; a facility that does not answer is unknown, not active."""
    await house.admin("POST", "/_status", status="degraded")
    await house.admin("POST", "/_outages", start_at=1_800_000_000, end_at="2027-02-01T00:00:00+00:00")
    async with house.tracking():
        async with asyncio.timeout(20):
            while house.facility.value is None:
                await asyncio.sleep(0.05)
        said = house.facility.value
        assert (said.status, said.machine, len(said.planned_outages)) == ("degraded", MACHINE, 1)
        await house.admin("POST", "/_faults", kind="status", method="GET", path="/status/*", count=1000)
        async with asyncio.timeout(20):
            while not (said := house.facility.value).unknown_because:
                await asyncio.sleep(0.05)
        assert (said.status, said.planned_outages) == ("unknown", [])


async def test_a_wrong_key_file_ends_the_start(house: House) -> None:
    """A missing or unusable secret says which file, before anything is asked."""
    house.be_client(None)
    with pytest.raises(Misconfigured, match="client_id"):
        async with house.tracking():
            pass


async def test_a_refused_client_keeps_trying(house: House) -> None:
    """With a client that the facility refuses, the counts are unknown with advice, until it is renewed."""
    house.be_client("expiredclient")
    async with house.tracking() as context:
        seen = await house.counts(lambda one: bool(one.unknown_because))
        assert "Iris" in seen.unknown_because
        assert any("Iris" in why for why in context.health.not_ready().values())
        house.be_client(house.ready["client_id"])
        await house.counts(lambda one: one.queued == 0)
        assert not context.health.not_ready()


async def test_a_new_submission_wakes_the_tracker(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A submission's record is a hint to list now, whatever the interval."""
    slow = {MACHINE: msgspec.structs.replace(house.site.machine[MACHINE], listing_interval_s=600.0)}
    house.site = msgspec.structs.replace(house.site, machine=slow)
    async with house.tracking():
        await house.next_counts()
        job_id = await house.submit(name("new"), "sleep 60")
        await house.note(name("new"), "accepted", job_id=job_id)
        await house.counts(lambda one: one.running == 1, timeout_s=15)


@pytest.mark.slurm
@pytest.mark.timeout(120)
async def test_on_a_real_slurm(real_house: House) -> None:
    """A real Slurm: queued, running, ended with each exit code, and cancelled from outside."""
    house = real_house
    ids: dict[str, str] = {}
    for word, line in {"ok": "sleep 3", "bad": "sleep 3; exit 3", "long": "sleep 600"}.items():
        ids[word] = await house.submit(name(word), line, agents=2)
        await house.note(name(word), "accepted", agents=2, job_id=ids[word])
    held = await house.submit(name("held"), "true", agents=5, options=("-H",))
    async with house.tracking():
        runs = await house.agent_in("running", name("long"), 1, timeout_s=40)
        assert (runs.job_id, runs.nodes[:3], runs.slurm_state) == (f"{ids['long']}_1", "nid", "RUNNING")
        waits = await house.agent_in("queued", name("held"), 4)
        assert (waits.reason, waits.job_id) == ("JobHeldUser", f"{held}_4")
        over = await house.agent_in("ended", name("ok"), 1, timeout_s=40)
        assert (over.exit_code, over.signal, over.verdict) == (0, 0, "completed")
        over = await house.agent_in("ended", name("bad"), 0, timeout_s=40)
        assert (over.exit_code, over.verdict.startswith("failed with exit code 3 on nid")) == (3, True)
        await house.client.cancel(f"{ids['long']}_0")
        over = await house.agent_in("ended", name("long"), 0, timeout_s=40)
        assert over.verdict.startswith("cancelled by user id")
        # Who was cancelled is unaccounted until sacct shows it.
        seen = await house.counts(lambda one: (one.running, one.queued, one.unaccounted) == (1, 5, 0))
        assert seen.user_jobs_by_qos == {"regular": 6}

"""libs.bus against a real nats-server."""

import asyncio
import contextlib
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from libs.bus import bucket as bucket_module
from libs.bus import connection, schema
from libs.bus.connection import Bus
from libs.bus.translate import Conflict
from libs.events import subjects
from libs.events.messages import DemandObserved, Submission, SubmissionAccepted
from libs.runtime import clock
from libs.runtime.errors import Unreachable
from libs.runtime.health import Health
from tests.nats_server import NatsServer

AT = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def demand(waiting: int, *, seconds: int = 0) -> DemandObserved:
    return DemandObserved(at=AT + timedelta(seconds=seconds), by="tests/1", ce="ALICE::X::Y", waiting=waiting)


def submission(name: str, why: str = "") -> Submission:
    return Submission(
        name=name,
        ce="ce",
        machine="perlmutter",
        agents=1,
        state="intended",
        intended_at=AT,
        void_after=AT,
        changed_at=AT,
        fence=1,
        why=why,
    )


async def until(holds: Callable[[], bool], timeout_s: float = 20.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not holds():
            await asyncio.sleep(0.02)


async def test_init_is_idempotent_and_migrates(bus: Bus) -> None:
    """A second init changes nothing; a setting that differs is brought back to the table's."""
    assert {change.action for change in await schema.initialise(bus.js, 1)} == {"unchanged"}
    info = await bus.js.stream_info("SUBMISSIONS")
    await bus.js.update_stream(info.config.evolve(max_age=3600.0))
    changes = {change.name: change for change in await schema.initialise(bus.js, 1)}
    assert (changes["SUBMISSIONS"].action, changes["SUBMISSIONS"].detail) == ("changed", "max_age")


async def test_same_msg_id_is_stored_once(bus: Bus) -> None:
    """Publishing again after a lost answer does not double an event."""
    for _ in range(3):
        await bus.publish(subjects.DEMAND_OBSERVED, "ce", demand(1), msg_id="one")
    assert (await bus.js.stream_info("LATEST")).state.last_seq == 1


async def test_missing_stream_names_the_cure(nats_server: NatsServer) -> None:
    """Without streams a publish says to run `nacre bus init`."""
    async with connection.connected(nats_server.url, "tests/1", Health()) as bare:
        with pytest.raises(Unreachable, match="nacre bus init"):
            await bare.publish(subjects.DEMAND_OBSERVED, "ce", demand(1))


async def test_unreachable_nats_is_said_in_time() -> None:
    """The first connect is bounded and names the URL, without a password in it."""
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:1 did not answer") as raised:
        async with connection.connected("nats://user:pw@127.0.0.1:1", "tests/1", Health(), patience_s=0.5):
            pass
    assert "pw" not in str(raised.value)


async def test_latest_value_old_and_new(bus: Bus) -> None:
    """A follower sees what was published before it, then each change; an older message never wins."""
    await bus.publish(subjects.DEMAND_OBSERVED, "ce", demand(7))
    wake = asyncio.Event()
    async with bus.latest(subjects.DEMAND_OBSERVED, "ce", wake=wake) as latest:
        await until(lambda: latest.value is not None and latest.value.waiting == 7)
        wake.clear()
        await bus.publish(subjects.DEMAND_OBSERVED, "ce", demand(8, seconds=1))
        await asyncio.wait_for(wake.wait(), 5)
        await bus.publish(subjects.DEMAND_OBSERVED, "ce", demand(5, seconds=-1))
        await bus.js.publish(subjects.DEMAND_OBSERVED.subject("ce"), b"rubbish")
        await asyncio.sleep(0.1)
        assert latest.value is not None
        assert latest.value.waiting == 8


async def test_a_message_from_the_future_is_not_the_newest_for_ever(bus: Bus) -> None:
    """After a writer's clock was a day ahead and was set right, its next message is followed at once."""
    now = clock.now()
    ahead = DemandObserved(at=now + timedelta(days=1), by="tests/1", ce="ce", waiting=9)
    right = DemandObserved(at=now, by="tests/1", ce="ce", waiting=3)
    async with bus.latest(subjects.DEMAND_OBSERVED, "ce") as latest:
        await bus.publish(subjects.DEMAND_OBSERVED, "ce", ahead)
        await until(lambda: latest.value == ahead)
        await bus.publish(subjects.DEMAND_OBSERVED, "ce", right)
        await until(lambda: latest.value == right)


async def test_a_follower_knows_when_it_has_read_the_stream(bus: Bus) -> None:
    """An empty stream is read, too; who is stopped meanwhile waits no longer."""
    stop = asyncio.Event()
    async with bus.latest(subjects.DEMAND_OBSERVED, "ce") as latest:
        assert await latest.read(stop)
        assert latest.value is None
        latest.loaded.clear()
        stop.set()
        assert not await latest.read(stop)


async def test_latest_survives_a_killed_server(nats_server: NatsServer, bus: Bus) -> None:
    """After kill -9 and restart of nats-server a follower catches up, and health says what happened."""
    async with bus.latest(subjects.DEMAND_OBSERVED, "ce") as latest:
        await bus.publish(subjects.DEMAND_OBSERVED, "ce", demand(1))
        nats_server.kill()
        nats_server.start()
        async with asyncio.timeout(20):
            while True:
                with contextlib.suppress(Unreachable):
                    await bus.publish(subjects.DEMAND_OBSERVED, "ce", demand(2, seconds=1))
                    break
        await until(lambda: latest.value is not None and latest.value.waiting == 2)


async def test_compare_and_set(bus: Bus) -> None:
    """A write over an old revision is a Conflict; the same write again is itself; deleted keys can be created anew."""
    bucket = bus.bucket(subjects.SUBMISSIONS_BUCKET)
    assert await bucket.read("a") is None
    first = await bucket.write("a", submission("a"), 0)
    assert await bucket.write("a", submission("a"), 0) == first
    second = await bucket.write("a", submission("a", "later"), first)
    with pytest.raises(Conflict):
        await bucket.write("a", submission("a", "other"), first)
    entry = await bucket.read("a")
    assert entry is not None
    assert (entry.record.why, entry.revision) == ("later", second)
    await bucket.delete("a", second)
    assert await bucket.read("a") is None
    assert await bucket.write("a", submission("a", "anew"), 0) > second


async def test_a_mirror_in_step_is_not_read_again(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """While its watcher brings all that the stream holds, the whole bucket is not read over and over."""
    monkeypatch.setattr(bucket_module, "RESYNC_S", 0.1)
    bucket = bus.bucket(subjects.SUBMISSIONS_BUCKET)
    async with bus.mirror(subjects.SUBMISSIONS_BUCKET) as mirror:
        await asyncio.wait_for(mirror.loaded.wait(), 5)
        first = {one.name for one in await bus.js.consumers_info("KV_submissions")}
        for number in range(20):
            await bucket.write("nacre-x-1", submission("nacre-x-1", str(number)), number)
            await asyncio.sleep(0.05)
        await until(lambda: mirror.entries["nacre-x-1"].revision == 20)
        assert {one.name for one in await bus.js.consumers_info("KV_submissions")} == first


async def test_a_watcher_that_stopped_is_noticed(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """A consumer that the server lost says nothing: the stream is further than the mirror, and is read anew."""
    monkeypatch.setattr(bucket_module, "RESYNC_S", 0.2)
    monkeypatch.setattr(bucket_module, "ANSWER_S", 1.0)
    bucket = bus.bucket(subjects.SUBMISSIONS_BUCKET)
    async with bus.mirror(subjects.SUBMISSIONS_BUCKET) as mirror:
        await asyncio.wait_for(mirror.loaded.wait(), 5)
        for one in await bus.js.consumers_info("KV_submissions"):
            await bus.js.delete_consumer("KV_submissions", one.name)
        await bucket.write("nacre-x-1", submission("nacre-x-1"), 0)
        await until(lambda: "nacre-x-1" in mirror.entries)


async def test_mirror_is_whole_while_all_is_written(nats_server: NatsServer, bus: Bus) -> None:
    """A mirror that says it is whole is so, however busily its bucket is written meanwhile."""
    bucket = bus.bucket(subjects.SUBMISSIONS_BUCKET)
    names = [f"s{number}" for number in range(32)]
    revisions = {name: await bucket.write(name, submission(name), 0) for name in names}
    stop = asyncio.Event()

    async def write(name: str) -> None:
        while not stop.is_set():
            revisions[name] = await bucket.write(name, submission(name, str(revisions[name])), revisions[name])

    async def loaded(reader: Bus) -> set[str]:
        async with reader.mirror(subjects.SUBMISSIONS_BUCKET) as mirror:
            await asyncio.wait_for(mirror.loaded.wait(), 20)
            return set(mirror.entries)

    async with connection.connected(nats_server.url, "tests/2", Health()) as reader:
        writing = [asyncio.create_task(write(name)) for name in names]
        found = await asyncio.gather(*(loaded(reader) for _ in range(6)))
        found.append(set(await reader.bucket(subjects.SUBMISSIONS_BUCKET).everything()))
        stop.set()
        await asyncio.gather(*writing)
    assert found == [set(names)] * 7


async def test_mirror_follows_random_changes(nats_server: NatsServer, bus: Bus) -> None:
    """A mirror equals the bucket after any order of writes and deletes, also across a killed server."""
    choice = random.Random(1)
    bucket = bus.bucket(subjects.SUBMISSIONS_BUCKET)
    revisions: dict[str, int] = {}
    async with bus.mirror(subjects.SUBMISSIONS_BUCKET) as mirror:
        await asyncio.wait_for(mirror.loaded.wait(), 5)
        for step in range(120):
            if step == 60:
                nats_server.kill()
                nats_server.start()
                await until(lambda: bus.is_connected)
                await asyncio.sleep(0.5)
            key = f"k{choice.randrange(12)}"
            if key in revisions and choice.random() < 0.3:
                await bucket.delete(key, revisions.pop(key))
            else:
                revisions[key] = await bucket.write(key, submission(key, str(step)), revisions.get(key, 0))
        await until(lambda: {key: entry.revision for key, entry in mirror.entries.items()} == revisions)


async def test_deliveries_until_acknowledged(bus: Bus) -> None:
    """An unacknowledged message comes again; a consumer goes on where it was."""
    for number in range(3):
        await bus.publish(subjects.DEMAND_OBSERVED, f"ce{number}", demand(number))
    stop = asyncio.Event()
    seen = []
    async with contextlib.aclosing(bus.deliveries(subjects.DEMAND_OBSERVED, "w", stop, ack_wait_s=1.0)) as stream:
        async for delivery in stream:
            seen.append(delivery.decoded().waiting)
            if len(seen) != 2:
                await delivery.done()
            if len(seen) == 4:
                break
    assert seen == [0, 1, 2, 1]


async def test_lease_passes_on_with_a_greater_fence(bus: Bus) -> None:
    """One holder at a time; when it leaves, the standby works with a greater fence."""
    stop = asyncio.Event()
    fences: list[int] = []
    working = 0

    async def work(fence: int) -> None:
        nonlocal working
        working += 1
        assert working == 1
        fences.append(fence)
        await asyncio.sleep(0.2)
        working -= 1

    await asyncio.wait_for(
        asyncio.gather(*(bus.hold("slurm_submitter.x", work, stop=stop, health=Health()) for _ in range(3))), 30
    )
    assert len(fences) == 3
    assert fences == sorted(set(fences))


async def test_one_of_many_creates_over_a_tombstone(bus: Bus) -> None:
    """However many try at once to create a deleted key, exactly one wins and keeps it."""
    bucket = bus.bucket(subjects.SUBMISSIONS_BUCKET)
    for round_ in range(20):
        key = f"k{round_}"
        await bucket.delete(key, await bucket.write(key, submission(key), 0))
        tries = [bucket.write(key, submission(key, str(number)), 0) for number in range(8)]
        answers = await asyncio.gather(*tries, return_exceptions=True)
        assert sum(isinstance(answer, int) for answer in answers) == 1
        assert all(isinstance(answer, int | Conflict) for answer in answers)


async def test_lease_lost_cancels_the_work(nats_server: NatsServer, bus: Bus) -> None:
    """When NATS stays away, work stops before the lease could be another's, and starts again with NATS."""
    stop = asyncio.Event()
    events: list[str] = []

    async def work(fence: int) -> None:
        events.append("start")
        try:
            await stop.wait()
        except asyncio.CancelledError:
            events.append("cancelled")
            raise

    holding = asyncio.create_task(bus.hold("slurm_submitter.x", work, stop=stop, health=Health()))
    await until(lambda: events == ["start"])
    nats_server.kill()
    await until(lambda: events == ["start", "cancelled"])
    nats_server.start()
    await until(lambda: events == ["start", "cancelled", "start"])
    stop.set()
    await asyncio.wait_for(holding, 10)


async def test_a_history_is_whole_however_fast_it_is_delivered(bus: Bus) -> None:
    """Asked a hundred times, it holds every message each time: none is missed that is delivered, but not yet here."""
    now = clock.now()
    for number in range(3):
        event = SubmissionAccepted(at=now, by="slurm_submitter/1", ce="cpu", name=f"n{number}", agents=1, job_id="1")
        await bus.publish(subjects.SUBMISSION_ACCEPTED, "cpu", event, msg_id=str(number))
    since = now - timedelta(hours=1)
    for _ in range(100):
        assert len([seen async for seen in bus.history(subjects.SUBMISSIONS, "nacre.v1.>", since)]) == 3
    assert [seen async for seen in bus.history(subjects.JOB_AGENTS, "nacre.v1.>", since)] == []

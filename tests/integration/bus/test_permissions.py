"""The permission matrix: what the table allows works over TLS with each user's own key, all else does not."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import nats.errors
import nats.js.errors
import pytest
from nats.aio.client import Client

from libs.bus import accounts, connection, permissions, schema
from libs.bus.connection import Bus
from libs.bus.login import Login
from libs.events import subjects
from libs.events.rows import Topic
from libs.runtime import clock
from libs.runtime.errors import NacreError, Refused, Transient
from libs.runtime.health import Health
from tests.nats_server import NatsServer

READERS = (*subjects.SERVICES, permissions.VIEWER)
QUIET_S = 0.25


def login(folder: Path, user: str) -> Login:
    """A user's key and the private CA."""
    return Login(nkey_file=folder / "users" / f"{user}.nk", ca_file=folder / "users" / "ca.pem")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[NatsServer, Path]]:
    """A nats-server with accounts, keys and TLS, and every stream and bucket on it."""
    folder = tmp_path_factory.mktemp("guarded")
    accounts.make(folder / "bus", ["127.0.0.1"], clock.now())
    server = NatsServer(folder / "nats", guarded_by=folder / "bus" / "server")
    server.start()
    asyncio.run(_initialised(server, folder / "bus"))
    yield server, folder / "bus"
    server.stop()


async def _initialised(server: NatsServer, folder: Path) -> None:
    async with as_user(server, folder, permissions.ADMINISTRATOR) as bus:
        await schema.initialise(bus.js, 1)


@contextlib.asynccontextmanager
async def as_user(server: NatsServer, folder: Path, user: str) -> AsyncIterator[Bus]:
    """A connection as one user."""
    async with connection.connected(server.url, f"{user}/1", Health(), login=login(folder, user)) as bus:
        yield bus


async def stored(bus: Bus, subject: str) -> bool:
    """True when a publish was let through and stored."""
    try:
        await bus.js.publish(subject, b"{}", timeout=QUIET_S, headers={"Nats-Msg-Id": subject + bus.by})
    except (nats.errors.TimeoutError, nats.js.errors.Error):
        return False
    return True


def subject_of(topic: Topic[object]) -> str:
    """One subject of a topic."""
    return topic.subject("scope", "relay" if topic.suffix else "")


@pytest.mark.parametrize("user", READERS)
async def test_publishes(guarded: tuple[NatsServer, Path], user: str) -> None:
    """Exactly the writer of a subject or bucket is let through; of the leases each service has its own keys."""
    async with as_user(*guarded, user) as bus:
        topics = {topic.name: subject_of(topic) for topic in subjects.TOPICS}
        keys = {bucket.name: f"$KV.{bucket.name}.key.{user}" for bucket in subjects.BUCKETS}
        leases = {service: f"$KV.leases.{service}.key{user}" for service in subjects.SERVICES}
        tried = {**topics, **keys, **leases}
        let_through = await asyncio.gather(*(stored(bus, subject) for subject in tried.values()))
    found = {name for name, good in zip(tried, let_through, strict=True) if good}
    wanted = {topic.name for topic in subjects.TOPICS if topic.writer == user}
    wanted |= {bucket.name for bucket in subjects.BUCKETS if bucket.writers == (user,)}
    wanted |= {user} & set(subjects.SERVICES)
    assert found == wanted


@pytest.mark.parametrize("user", READERS)
async def test_subscribes(guarded: tuple[NatsServer, Path], user: str) -> None:
    """A subject's message reaches exactly its readers, and the viewer, who reads everything."""
    server, folder = guarded
    heard: set[str] = set()
    nc = Client()

    async def denied(_: Exception) -> None:
        return

    options = login(folder, user).options(user)
    await nc.connect(server.url.replace("nats://", "tls://"), error_cb=denied, **options)
    for topic in subjects.TOPICS:

        async def hear(_: object, name: str = topic.name) -> None:
            heard.add(name)

        await nc.subscribe(topic.pattern, cb=hear)
    await nc.flush()
    async with as_user(server, folder, permissions.ADMINISTRATOR) as bus:
        for topic in subjects.TOPICS:
            await bus.js.publish(subject_of(topic), b"{}")
    await asyncio.sleep(QUIET_S)
    await nc.close()
    readers = {topic.name for topic in subjects.TOPICS if user in topic.readers}
    assert heard == ({topic.name for topic in subjects.TOPICS} if user == permissions.VIEWER else readers)


@pytest.mark.parametrize("user", READERS)
async def test_reads_of_what_is_stored(guarded: tuple[NatsServer, Path], user: str) -> None:
    """The last message of a subject and the records of a bucket are read by exactly those whom the table names."""
    async with as_user(guarded[0], guarded[1], permissions.ADMINISTRATOR) as bus:
        for topic in subjects.TOPICS:
            await bus.js.publish(subject_of(topic), b"{}")
    async with as_user(*guarded, user) as bus:
        latest = [topic for topic in subjects.TOPICS if topic.stream == subjects.LATEST]
        topics = await asyncio.gather(*(_last(bus, topic) for topic in latest))
        buckets = await asyncio.gather(*(_bucket(bus, bucket) for bucket in subjects.BUCKETS))
    everything = user == permissions.VIEWER
    assert topics == [everything or user in topic.readers for topic in latest]
    assert buckets == [everything or user in (*bucket.readers, *bucket.writers) for bucket in subjects.BUCKETS]


async def _last(bus: Bus, topic: Topic[object]) -> bool:
    with contextlib.suppress(TimeoutError, nats.js.errors.Error):
        async with asyncio.timeout(QUIET_S):
            await bus.js.get_last_msg(topic.stream.name, subject_of(topic), direct=True)
            return True
    return False


async def _bucket(bus: Bus, bucket: object) -> bool:
    with contextlib.suppress(Transient, TimeoutError):
        async with asyncio.timeout(QUIET_S * 2):
            await bus.bucket(bucket).everything()  # type: ignore[arg-type]
            return True
    return False


async def test_each_service_does_its_usual_things(guarded: tuple[NatsServer, Path]) -> None:
    """Register, hold a lease, follow a mirror, consume a log, look at everything: as the table says."""
    async with as_user(*guarded, subjects.SLURM_SUBMITTER) as bus:
        await bus.register(subjects.SLURM_SUBMITTER, "1")
        key = f"{subjects.SLURM_SUBMITTER}.active"
        held, stop = asyncio.Event(), asyncio.Event()

        async def work(_: int) -> None:
            held.set()

        await asyncio.wait_for(bus.hold(key, work, stop=stop, health=Health()), 5)
        assert held.is_set()
        async with bus.mirror(subjects.SUBMISSIONS_BUCKET) as mirror:
            assert await asyncio.wait_for(mirror.whole(stop), 5)
        async with as_user(*guarded, permissions.VIEWER) as viewer:
            assert [one.service for one in await viewer.answering(QUIET_S)] == [subjects.SLURM_SUBMITTER]
            since = clock.now() - timedelta(days=1)
            seen = [one async for one in viewer.history(subjects.SUBMISSIONS, "nacre.v1.>", since)]
            assert seen
    async with as_user(*guarded, subjects.MONITORING_RELAY) as bus:
        stop = asyncio.Event()
        await bus.publish_bytes(subjects.MONITORING_RECEIVED, "site", "relay", b"\0\0\0\0", "permissions-1")
        async for delivery in bus.deliveries(subjects.MONITORING_RECEIVED, "permissions", stop):
            await delivery.done()
            stop.set()


async def test_rotation_lets_both_keys_in_and_retirement_one(tmp_path: Path) -> None:
    """After `rotate` and a reload the old and the new key work; after `retire` the new one alone; nothing is cut."""
    folder = tmp_path / "bus"
    accounts.make(folder, ["127.0.0.1"], clock.now())
    assert accounts.make(folder, ["127.0.0.1"], clock.now()) == []
    server = NatsServer(tmp_path / "nats", guarded_by=folder / "server")
    server.start()
    user = subjects.QUEUE_POLLER
    try:
        async with as_user(server, folder, user) as kept:
            accounts.rotate(folder, user)
            server.reload()
            old = Login(nkey_file=folder / "users" / f"{user}.nk.old", ca_file=folder / "users" / "ca.pem")
            for one in (old, login(folder, user)):
                async with connection.connected(server.url, f"{user}/2", Health(), login=one, patience_s=3):
                    pass
            old_seed = old.nkey_file.read_bytes() if old.nkey_file else b""
            assert kept.is_connected
            accounts.retire(folder, user)
            server.reload()
            (tmp_path / "old.nk").write_bytes(old_seed)
            gone = Login(nkey_file=tmp_path / "old.nk", ca_file=folder / "users" / "ca.pem")
            with pytest.raises(NacreError):
                async with connection.connected(server.url, f"{user}/3", Health(), login=gone, patience_s=1):
                    pass
            async with connection.connected(server.url, f"{user}/4", Health(), login=login(folder, user)):
                pass
    finally:
        server.stop()


async def test_without_a_key_nobody_is_let_in(guarded: tuple[NatsServer, Path]) -> None:
    """An anonymous client is refused, and is told so; seeds are readable by their owner alone."""
    server, folder = guarded
    with pytest.raises(Refused, match="refuses"):
        async with connection.connected(
            server.url, "x/1", Health(), login=Login(ca_file=folder / "users" / "ca.pem"), patience_s=4
        ):
            pass
    modes = {path.name: path.stat().st_mode & 0o777 for path in (folder / "users").glob("*.nk")}
    assert set(modes.values()) == {0o600}

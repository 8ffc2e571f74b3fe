"""One connection to NATS: bounded first connect, endless reconnect, publishing."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from importlib.metadata import version
from typing import Any, TypeVar

import msgspec
import nats.errors
import nats.micro
from nats.aio.client import Client
from nats.js import JetStreamContext, api

from libs.bus.bucket import Bucket, Mirror, decode
from libs.bus.hints import hinted
from libs.bus.history import Answering, Seen, answering, history, newest, tap
from libs.bus.latest import Latest
from libs.bus.lease import Work, hold
from libs.bus.login import ANONYMOUS, Login
from libs.bus.pull import Delivery, deliveries
from libs.bus.translate import trace_headers, translated
from libs.events import subjects
from libs.events.messages import Event
from libs.events.rows import Bucket as BucketRow
from libs.events.rows import Stream, Topic
from libs.runtime.errors import Refused, Unreachable
from libs.runtime.health import Health
from libs.runtime.run import Context

ANSWER_S = 5.0
CONDITION = "bus"
DENIED = "uthorization"

T = TypeVar("T")

log = logging.getLogger(__name__)

__all__ = ["Answering", "Bus", "Delivery", "Latest", "Mirror", "Seen", "attached", "connected"]


class Bus:
    """Publish, latest values, durable consumers, buckets and leases over one connection.

    Every method raises Transient errors only (Unreachable, Overloaded, Conflict): the bus is back some time.
    """

    def __init__(self, nc: Client, js: JetStreamContext, by: str) -> None:
        self._nc = nc
        self._js = js
        self.by = by
        self.reconnected: set[asyncio.Event] = set()

    @property
    def js(self) -> JetStreamContext:
        """JetStream itself, for `schema.initialise` and tests."""
        return self._js

    async def register(self, service: str, instance: str) -> None:
        """Answer NATS' discovery requests (`nats micro ls`, `nats micro info`); it has no endpoints of its own."""
        with translated(f"register {service}"):
            await nats.micro.add_service(
                self._nc,
                name=service,
                version=version("nacre"),
                description="part of Nacre, the ALICE Computing Element",
                metadata={"instance": instance},
            )

    @property
    def is_connected(self) -> bool:
        """True while the connection stands."""
        return bool(self._nc.is_connected)

    async def publish(
        self, topic: Topic[Any], scope: str, message: Event, *, msg_id: str = "", suffix: str = ""
    ) -> None:
        """Publish one message and wait until the stream has it. Publishing the same `msg_id` again changes nothing.

        Without `msg_id` the message is its subject, writer and instant.
        """
        subject = topic.subject(scope, suffix)
        identity = msg_id or f"{subject}@{message.by}@{message.at.isoformat()}"
        await self._store(subject, msgspec.json.encode(message), identity, "application/json")

    async def publish_bytes(self, topic: Topic[Any], scope: str, suffix: str, body: bytes, msg_id: str) -> None:
        """Publish a binary body (`monitoring.received`) and wait until the stream has it."""
        await self._store(topic.subject(scope, suffix), body, msg_id, "application/octet-stream")

    async def _store(self, subject: str, body: bytes, msg_id: str, content_type: str) -> None:
        headers = {api.Header.MSG_ID.value: msg_id, "content-type": content_type, **trace_headers()}
        with translated(f"publish {subject}"):
            await self._js.publish(subject, body, timeout=ANSWER_S, headers=headers)

    @contextlib.asynccontextmanager
    async def latest(
        self, topic: Topic[Any], scope: str, suffix: str = "", *, wake: asyncio.Event | None = None
    ) -> AsyncIterator[Latest[Any]]:
        """Follow the latest value of one subject; `wake` is set whenever it changes."""
        value = Latest(self._nc, self._js, topic, topic.subject(scope, suffix), wake)
        with self._told_of_reconnects(value.resync):
            async with value.following():
                yield value

    def hinted(self, topic: Topic[Any], scope: str, hint: Callable[[], None]) -> AbstractAsyncContextManager[None]:
        """Call `hint` for each message of one topic and scope that comes while followed; some may be missed."""
        return hinted(self._nc, topic.subject(scope), hint)

    def history(self, stream: Stream, pattern: str, since: datetime) -> AsyncGenerator[Seen, None]:
        """What a stream holds under a subject pattern since an instant, oldest first, then ends."""
        return history(self._js, stream, pattern, since)

    def newest(self, stream: Stream, pattern: str) -> AsyncGenerator[Seen, None]:
        """The last message of each subject that a stream holds under a subject pattern, then ends."""
        return newest(self._js, stream.name, pattern)

    async def answering(self, within_s: float = 0.2) -> list[Answering]:
        """The processes that answer NATS' discovery request within so many seconds."""
        return await answering(self._nc, within_s)

    def tap(self, stop: asyncio.Event) -> AsyncGenerator[Seen, None]:
        """Everything that is published from now on until `stop`."""
        return tap(self._nc, stop)

    async def records(self, table: BucketRow[T], pattern: str) -> AsyncGenerator[T, None]:
        """The records of a bucket under a pattern of keys (`cpu.2026-11-23.*`), one by one: it may be a large one."""
        async for seen in newest(self._js, f"KV_{table.name}", f"$KV.{table.name}.{pattern}"):
            record = decode(table, seen.subject, seen.body) if seen.body else None
            if record is not None:
                yield record

    def bucket(self, table: BucketRow[Any]) -> Bucket[Any]:
        """One bucket of the table."""
        return Bucket(self._js, table)

    @contextlib.asynccontextmanager
    async def mirror(self, table: BucketRow[Any], *, wake: asyncio.Event | None = None) -> AsyncIterator[Mirror[Any]]:
        """Follow a whole bucket in memory; `wake` is set whenever a record changes."""
        mirror = Mirror(self._js, table, wake)
        with self._told_of_reconnects(mirror.resync):
            async with mirror.following():
                yield mirror

    def deliveries(
        self, topic: Topic[Any], durable: str, stop: asyncio.Event, *, ack_wait_s: float = 30.0
    ) -> AsyncGenerator[Delivery, None]:
        """Messages of a topic, each until it is acknowledged, through the durable consumer `durable`."""
        return deliveries(self._nc, self._js, topic, durable, stop, ack_wait_s=ack_wait_s)

    async def hold(self, key: str, work: Work, *, stop: asyncio.Event, health: Health) -> None:
        """Run `work(fence)` while this instance holds the lease `key` (`<service>.<what>`); see `lease.hold`."""
        await hold(self.bucket(subjects.LEASES_BUCKET), key, self.by, work, stop=stop, health=health)

    @contextlib.contextmanager
    def _told_of_reconnects(self, event: asyncio.Event) -> Iterator[None]:
        self.reconnected.add(event)
        try:
            yield
        finally:
            self.reconnected.discard(event)


class _Watch:
    """What nats-py tells about one connection, into health and log."""

    def __init__(self, nc: Client, shown: str, health: Health, stop: asyncio.Event | None) -> None:
        self.bus: Bus | None = None
        self.last_error = ""
        self.denied = False
        self._nc = nc
        self._shown = shown
        self._health = health
        self._stop = stop

    async def error(self, error: Exception) -> None:
        text = f"{type(error).__name__} {error}".strip()
        if text != self.last_error:
            log.warning("NATS at %s: %s", self._shown, text)
        self.last_error = text
        # What the server said stays said: the connection that it closes afterwards breaks in words of its own.
        self.denied = self.denied or DENIED in text

    async def disconnected(self) -> None:
        if self._nc.is_closed or self._nc.is_draining:
            return
        self._health.bad(CONDITION, f"connection to NATS at {self._shown} lost; reconnecting")
        log.warning("connection to NATS at %s lost; reconnecting", self._shown)

    async def reconnected(self) -> None:
        self._health.good(CONDITION)
        self.last_error = ""
        log.info("connection to NATS at %s is back", self._shown)
        for event in self.bus.reconnected if self.bus else ():
            event.set()

    async def closed(self) -> None:
        if self._stop is not None and not self._stop.is_set():
            log.error("connection to NATS at %s is closed for good; ending, a new process tries again", self._shown)
            self._stop.set()


@contextlib.asynccontextmanager
async def attached(context: Context) -> AsyncIterator[Bus]:
    """The bus of a service, as its site file and environment say; while attached, `nats micro ls` lists the service."""
    async with connected(
        context.nats_url,
        context.by,
        context.health,
        login=Login.of(context.environment),
        patience_s=context.site.bus.connect_patience_s,
        stop=context.stop,
    ) as bus:
        await bus.register(context.service, context.instance)
        yield bus


@contextlib.asynccontextmanager
async def connected(
    url: str,
    by: str,
    health: Health,
    *,
    login: Login = ANONYMOUS,
    patience_s: float = 30.0,
    stop: asyncio.Event | None = None,
) -> AsyncIterator[Bus]:
    """Connect within `patience_s` (else Unreachable), then reconnect for ever. Refused when NATS denies us.

    The condition `bus` of `health` follows the connection; `stop` is set if the connection can never come back.
    """
    shown = url.rpartition("@")[2]  # a URL may hold a password: only what follows it is shown
    nc = Client()
    watch = _Watch(nc, shown, health, stop)
    health.bad(CONDITION, f"connecting to NATS at {shown}")
    await _connect(nc, url, shown, by, login, watch, patience_s)
    watch.bus = Bus(nc, nc.jetstream(timeout=ANSWER_S), by)
    health.good(CONDITION)
    try:
        yield watch.bus
    finally:
        if stop is not None:
            stop.set()
        with contextlib.suppress(nats.errors.Error, OSError, TimeoutError):
            await asyncio.wait_for(nc.drain(), 5.0)
        if not nc.is_closed:
            await nc.close()


async def _connect(nc: Client, url: str, shown: str, by: str, login: Login, watch: _Watch, patience_s: float) -> None:
    connecting = nc.connect(
        url,
        name=by,
        max_reconnect_attempts=-1,
        reconnect_time_wait=1,
        connect_timeout=3,
        ping_interval=5,
        max_outstanding_pings=2,
        error_cb=watch.error,
        disconnected_cb=watch.disconnected,
        reconnected_cb=watch.reconnected,
        closed_cb=watch.closed,
        **login.options(by.partition("/")[0]),
    )
    try:
        await asyncio.wait_for(connecting, patience_s)
    except TimeoutError as error:
        await nc.close()
        last = f" (last: {watch.last_error})" if watch.last_error else ""
        if watch.denied:
            raise Refused(f"NATS at {shown} refuses our credentials{last}") from error
        raise Unreachable(
            f"NATS at {shown} did not answer in {patience_s:.0f} s{last}; is it up, is the URL right?"
        ) from error
    except (nats.errors.Error, OSError, ValueError) as error:
        raise Refused(f"NATS at {shown}: {type(error).__name__} {error}; check the URL and the credentials") from error

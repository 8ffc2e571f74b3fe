"""The latest value of one subject: read once, then followed; read again after each reconnect and now and then."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Generic, TypeVar

import msgspec
import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from opentelemetry.context import Context

from libs.bus.translate import trace_context, translated
from libs.events.messages import Event
from libs.events.rows import Topic
from libs.runtime import clock
from libs.runtime.errors import Transient
from libs.runtime.reconcile import either
from libs.runtime.tasks import end

RESYNC_S = 15.0
CLOCKS_DIFFER = timedelta(seconds=60)

T = TypeVar("T", bound=Event)
log = logging.getLogger(__name__)


class Latest(Generic[T]):
    """`value` is the newest message by its own instant, None while there is none. Rubbish is logged and ignored.

    One from the future was written by a clock that is wrong: whatever follows it takes its place. `loaded` is set once
    the stream was read, whether or not there was a message.
    """

    def __init__(
        self,
        nc: Client,
        js: JetStreamContext,
        topic: Topic[T],
        subject: str,
        wake: asyncio.Event | None,
    ) -> None:
        if topic.message is None:
            raise ValueError(f"{topic.name} has no message type")
        self.value: T | None = None
        self.trace: Context = Context()
        self.loaded = asyncio.Event()
        self.resync = asyncio.Event()
        self._nc = nc
        self._js = js
        self._topic = topic
        self._type = topic.message
        self._subject = subject
        self._wake = wake

    async def read(self, stop: asyncio.Event) -> bool:
        """Wait until what the stream holds is here; False when `stop` came first."""
        await either(self.loaded, stop)
        return self.loaded.is_set()

    @contextlib.asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """Follow until left."""
        with translated(f"subscribe {self._subject}"):
            subscription = await self._nc.subscribe(self._subject, cb=self._arrived)
        task = asyncio.create_task(self._read_now_and_then(), name=f"latest {self._subject}")
        try:
            yield
        finally:
            await end(task)
            with contextlib.suppress(Transient), translated(f"unsubscribe {self._subject}"):
                await subscription.unsubscribe()

    async def _arrived(self, message: Msg) -> None:
        self._take(message.data, message.headers)

    async def _read_now_and_then(self) -> None:
        while True:
            self.resync.clear()
            try:
                await self._read()
                self.loaded.set()
            except Transient as error:
                log.debug("%s; reading it again", error)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.resync.wait(), RESYNC_S)

    async def _read(self) -> None:
        with translated(f"latest value of {self._subject}"):
            try:
                # Directly: then permissions can name the subject, and any replica may answer.
                message = await self._js.get_last_msg(self._topic.stream.name, self._subject, direct=True)
            except nats.js.errors.NotFoundError:
                return
        self._take(message.data or b"", message.headers)

    def _take(self, body: bytes, headers: dict[str, str] | None) -> None:
        try:
            value = msgspec.json.decode(body, type=self._type)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            log.error("%s carries no %s: %s; ignored", self._subject, self._type.__name__, error)
            return
        held = self.value
        if held is not None and (value.at == held.at or value.at < held.at <= clock.now() + CLOCKS_DIFFER):
            return
        self.value = value
        self.trace = trace_context(headers)
        if self._wake is not None:
            self._wake.set()

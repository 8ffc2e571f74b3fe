"""Buckets: typed records with compare-and-set, and a mirror of a whole bucket in memory."""

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import AsyncIterator
from typing import Any, Generic, TypeVar

import msgspec
import nats.errors
import nats.js.errors
from nats.js import JetStreamContext, api
from nats.js.kv import KeyValue

from libs.bus.translate import Conflict, translated
from libs.events.rows import Bucket as BucketRow
from libs.runtime.errors import Transient
from libs.runtime.reconcile import either
from libs.runtime.tasks import end

ANSWER_S = 5.0
RESYNC_S = 30.0
# While an image is read: at most so often the bucket is asked how many keys it has.
COUNT_S = 0.25
REMOVED = ("DEL", "PURGE")
NO_MESSAGE = 10037  # https://github.com/nats-io/nats-server/blob/main/server/errors.json

T = TypeVar("T")
log = logging.getLogger(__name__)


class Entry(msgspec.Struct, Generic[T], frozen=True):
    """A record with its revision, the token for compare-and-set."""

    record: T
    revision: int


class Bucket(Generic[T]):
    """One bucket. Writing needs the revision that was read (0: the key must be new), else Conflict."""

    def __init__(self, js: JetStreamContext, table: BucketRow[T]) -> None:
        self.table = table
        self._js = js
        self._stream = f"KV_{table.name}"

    async def read(self, key: str) -> Entry[T] | None:
        """The record under `key`; None when there is none, or none that decodes (which is logged)."""
        body, revision = await self._last(key)
        record = None if body is None else decode(self.table, key, body)
        return None if record is None else Entry(record, revision)

    async def everything(self) -> dict[str, Entry[T]]:
        """Every record by key, as of now; what does not decode is logged and left out."""
        with translated(f"bucket {self.table.name}"):
            bucket = await self._js.key_value(self.table.name)
            watcher = await bucket.watchall()
            try:
                return (await _image(self.table, bucket, watcher))[0]
            finally:
                await watcher.stop()

    async def write(self, key: str, record: T, revision: int) -> int:
        """Write `record` over `revision` (0: create); gives the new revision. Conflict when somebody else wrote since.

        An earlier write of the same bytes whose answer was lost counts as this one.
        """
        body = msgspec.json.encode(record)
        try:
            return await self._store(key, body, revision)
        except Conflict:
            stored, last = await self._last(key)
            if stored == body:
                return last
            if stored is None and revision == 0:
                # A deleted key still has a last sequence: create over just this tombstone, or conflict again.
                return await self._store(key, body, last)
            raise

    async def delete(self, key: str, revision: int) -> None:
        """Delete the key if it still has `revision`; Conflict otherwise."""
        await self._store(key, b"", revision, {"KV-Operation": "DEL"})

    async def _store(self, key: str, body: bytes, last: int, headers: dict[str, str] | None = None) -> int:
        identity = hashlib.blake2b(body, digest_size=12).hexdigest()
        headers = (headers or {}) | {
            api.Header.EXPECTED_LAST_SUBJECT_SEQUENCE.value: str(last),
            api.Header.MSG_ID.value: f"{self._subject(key)}@{last}@{identity}",
        }
        with translated(f"bucket {self.table.name}, key {key}"):
            answer = await self._js.publish(self._subject(key), body, timeout=ANSWER_S, headers=headers)
        return int(answer.seq)

    async def _last(self, key: str) -> tuple[bytes | None, int]:
        """The last message of the key: its body (None: a tombstone, or no message) and its sequence (0: none)."""
        with translated(f"bucket {self.table.name}, key {key}"):
            try:
                message = await self._js.get_last_msg(self._stream, self._subject(key), direct=False)
            except nats.js.errors.NotFoundError as error:
                if error.err_code == NO_MESSAGE:
                    return None, 0
                raise
        removed = (message.headers or {}).get("KV-Operation") in REMOVED
        return (None if removed else message.data or b""), int(message.seq or 0)

    def _subject(self, key: str) -> str:
        return f"$KV.{self.table.name}.{key}"


def decode(table: BucketRow[T], key: str, body: bytes) -> T | None:
    """The record in `body`, or None with a log line when it is not one."""
    try:
        return msgspec.json.decode(body, type=table.record)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        log.error("bucket %s, key %s holds no %s: %s", table.name, key, table.record.__name__, error)
        return None


async def _next(watcher: KeyValue.KeyWatcher, at_most_s: float) -> KeyValue.Entry | None:
    """The next update; None for the watcher's mark, and when nothing comes."""
    try:
        update: KeyValue.Entry | None = await watcher.updates(timeout=at_most_s)
    except nats.errors.TimeoutError:
        return None
    return update


async def _image(
    table: BucketRow[T], bucket: KeyValue, watcher: KeyValue.KeyWatcher
) -> tuple[dict[str, Entry[T]], int]:
    """The whole bucket, and the newest revision in it.

    Whole is what holds every key that the bucket has: it keeps one message for each, tombstones included, so their
    number tells. The watcher's own mark does not: while many keys are written it comes early, even before all of them
    (nats-py 2.16 with nats-server 2.15), and the server's count of what is pending can be too small.
    """
    loop = asyncio.get_running_loop()
    image: dict[str, Entry[T]] = {}
    keys: set[str] = set()
    newest, counted_s, heard_s = 0, 0.0, loop.time()
    while True:
        update = await _next(watcher, COUNT_S)
        if update is not None:
            _apply(table, image, update)
            keys.add(update.key)
            newest, heard_s = max(newest, update.revision or 0), loop.time()
            if update.delta and loop.time() < counted_s + COUNT_S:
                continue
        counted_s = loop.time()
        if len(keys) >= (await bucket.status()).values:
            return image, newest
        if loop.time() > heard_s + ANSWER_S:
            raise nats.errors.TimeoutError


def _apply(table: BucketRow[T], image: dict[str, Entry[T]], update: Any) -> None:
    known = image.get(update.key)
    if known is not None and known.revision > update.revision:
        return
    record = None if update.operation in REMOVED else decode(table, update.key, update.value)
    if record is None:
        image.pop(update.key, None)
    else:
        image[update.key] = Entry(record, update.revision)


class Mirror(Generic[T]):
    """A whole bucket in memory: `entries` by key, whole once `loaded` is set, then followed.

    A watcher that silently stopped looks like a bucket that does not change: every `RESYNC_S` the stream is asked how
    far it is, and read anew when the watcher does not come as far, as after each reconnect.
    """

    def __init__(self, js: JetStreamContext, table: BucketRow[T], wake: asyncio.Event | None) -> None:
        self.entries: dict[str, Entry[T]] = {}
        self.loaded = asyncio.Event()
        self.resync = asyncio.Event()
        self._noted: dict[str, Entry[T]] = {}
        self._js = js
        self._table = table
        self._wake = wake

    async def whole(self, stop: asyncio.Event) -> bool:
        """Wait until all of the bucket is here; False when `stop` came first."""
        await either(self.loaded, stop)
        return self.loaded.is_set()

    def note(self, key: str, record: T, revision: int) -> None:
        """Take in a write of our own at once, before the watcher brings it."""
        self.entries[key] = self._noted[key] = Entry(record, revision)

    @contextlib.asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """Follow until left."""
        task = asyncio.create_task(self._follow(), name=f"mirror {self._table.name}")
        try:
            yield
        finally:
            await end(task)

    async def _follow(self) -> None:
        while True:
            self.resync.clear()
            self._noted.clear()
            try:
                with translated(f"bucket {self._table.name}"):
                    created = (await self._js.stream_info(f"KV_{self._table.name}")).created
                    bucket = await self._js.key_value(self._table.name)
                    watcher = await bucket.watchall()
                    try:
                        image, newest = await _image(self._table, bucket, watcher)
                        self._swap_in(image, newest)
                        await self._take(watcher, newest, created)
                    finally:
                        await watcher.stop()
            except Transient as error:
                log.debug("%s; following again", error)
                await asyncio.sleep(1.0)

    def _swap_in(self, image: dict[str, Entry[T]], newest: int) -> None:
        # What we noted while the image was being read is newer than the image. What was there before is not: a bucket
        # that was lost and made again counts its revisions from 1.
        image |= {key: entry for key, entry in self._noted.items() if entry.revision > newest}
        changed = image != self.entries
        self.entries = image
        self.loaded.set()
        if changed:
            self._changed()

    async def _take(self, watcher: KeyValue.KeyWatcher, newest: int, created: Any) -> None:
        """Single changes, for as long as the watcher brings all that the stream holds."""
        loop = asyncio.get_running_loop()
        due_s, patience_s = loop.time() + RESYNC_S, 0.0
        wanted: int | None = None
        while not self.resync.is_set():
            if wanted is None and loop.time() >= due_s:
                info = await self._js.stream_info(f"KV_{self._table.name}")
                # Records that end by themselves are told by no message.
                if self._table.ttl_s or info.created != created or info.state.last_seq < newest:
                    return
                wanted, patience_s = info.state.last_seq, loop.time() + ANSWER_S
            if wanted is not None and newest >= wanted:
                self._noted = {key: entry for key, entry in self._noted.items() if entry.revision > newest}
                due_s, wanted = loop.time() + RESYNC_S, None
            if wanted is not None and loop.time() > patience_s:
                return
            update = await _next(watcher, min(max(due_s - loop.time(), 0.05), 0.5))
            if update is not None:
                newest = max(newest, update.revision or 0)
                _apply(self._table, self.entries, update)
                self._changed()

    def _changed(self) -> None:
        if self._wake is not None:
            self._wake.set()

"""Batches on their way from the port to NATS and to MonALISA, in memory and bounded. Pure."""

import hashlib
from collections import OrderedDict
from typing import NamedTuple

MAX_REMEMBERED = 4096  # forwarded batches whose second coming is recognised


class Batch(NamedTuple):
    """One message body for `monitoring.received`, its identity, and how many datagrams it holds.

    `again`: NATS had it before, and may have lost it.
    """

    identity: str
    body: bytes
    datagrams: int
    again: bool = False


def identity(body: bytes) -> str:
    """The same for the same datagrams at the same instants, whoever asks: the Msg-Id, and how a delivery is known."""
    return hashlib.blake2b(body, digest_size=16).hexdigest()


class Ring:
    """Batches on their way: waiting for NATS, being published, or published and not yet forwarded.

    NATS keeps `monitoring.received` in memory only: what it has accepted is lost with its process. So a batch stays
    here until it was forwarded, or, when nobody forwards here, until NATS has it. The bound is in bytes. When it is
    reached, the oldest batch that NATS has goes first, which loses nothing; then the oldest that it does not have,
    which is counted.
    """

    def __init__(self, limit_bytes: int, *, until_forwarded: bool) -> None:
        self.size_bytes = 0
        self._limit_bytes = limit_bytes
        self._until_forwarded = until_forwarded
        self._waiting: OrderedDict[str, Batch] = OrderedDict()
        self._published: OrderedDict[str, Batch] = OrderedDict()
        self._under_way: Batch | None = None
        self._forwarded: OrderedDict[str, None] = OrderedDict()

    @property
    def unforwarded(self) -> int:
        """Batches that are held at all."""
        return self.unpublished + len(self._published)

    @property
    def unpublished(self) -> int:
        """Batches that NATS does not have, as far as is known."""
        return len(self._waiting) + (self._under_way is not None)

    def add(self, body: bytes, datagrams: int) -> int:
        """Keep a new batch; gives the number of datagrams that had to go for it and are lost."""
        batch = Batch(identity(body), body, datagrams)
        self._waiting[batch.identity] = batch
        self.size_bytes += len(body)
        lost = 0
        while self.size_bytes > self._limit_bytes and (self._published or self._waiting):
            if self._published:
                self._released(self._published.popitem(last=False)[1])
            else:
                lost += self._released(self._waiting.popitem(last=False)[1]).datagrams
        return lost

    def take(self) -> Batch | None:
        """The oldest batch that waits for NATS, to be published; then call `published` or `failed`."""
        if self._under_way is None and self._waiting:
            self._under_way = self._waiting.popitem(last=False)[1]
        return self._under_way

    def published(self) -> None:
        """NATS has the batch that was taken."""
        batch, self._under_way = self._under_way, None
        if batch is None:
            return  # it came back and was forwarded before its acknowledgement did
        if self._until_forwarded:
            self._published[batch.identity] = batch
        else:
            self._released(batch)

    def failed(self) -> None:
        """The batch that was taken has to wait on, before all others."""
        batch, self._under_way = self._under_way, None
        if batch is not None:
            self._waiting[batch.identity] = batch
            self._waiting.move_to_end(batch.identity, last=False)

    def was_forwarded(self, known_as: str) -> bool:
        """Whether a delivered batch comes for the second time and must not be forwarded again."""
        return known_as in self._forwarded

    def forwarded(self, known_as: str) -> None:
        """A delivered batch was forwarded: it may be let go, and is remembered."""
        self._forwarded[known_as] = None
        if len(self._forwarded) > MAX_REMEMBERED:
            self._forwarded.popitem(last=False)
        if self._under_way is not None and self._under_way.identity == known_as:
            self._released(self._under_way)
            self._under_way = None
        for kept in (self._waiting, self._published):
            if known_as in kept:
                self._released(kept.pop(known_as))

    def distrust(self) -> None:
        """NATS may have been restarted: all that was not forwarded waits again, oldest first."""
        again = {batch.identity: batch._replace(again=True) for batch in self._published.values()}
        self._waiting = OrderedDict(again | self._waiting)
        self._published = OrderedDict()

    def _released(self, batch: Batch) -> Batch:
        self.size_bytes -= len(batch.body)
        return batch

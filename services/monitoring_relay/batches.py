"""The body of `monitoring.received`: many datagrams in one binary message, big-endian. Pure.

u32 count, then per datagram: u64 receive instant (ns since 1970), 16 B source address (IPv4 as IPv4-mapped IPv6),
u16 source port, u16 length, the datagram's bytes
"""

import hashlib
import struct
from collections import OrderedDict
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

from libs.runtime.errors import Malformed

MAX_DATAGRAMS = 4096  # of one batch; ours are far smaller
MAX_REMEMBERED = 4096  # forwarded batches whose second coming is recognised

_COUNT = struct.Struct(">I")
_ITEM = struct.Struct(">Q16sHH")
COUNT_BYTES = _COUNT.size
ITEM_BYTES = _ITEM.size  # of a datagram in a batch, beside its own bytes


class Received(NamedTuple):
    """One datagram as it came: `at_ns` since 1970, `address` as 16 bytes (packed_address), `body` up to 65,535 B."""

    at_ns: int
    address: bytes
    port: int
    body: bytes


@lru_cache(maxsize=4096)
def packed_address(text: str) -> bytes:
    """The 16 bytes of an IPv4 or IPv6 address; a zone ("%eth0") is left out. Raises ValueError for anything else."""
    address = ip_address(text.partition("%")[0])
    if address.version == 4:  # noqa: PLR2004
        return b"\0" * 10 + b"\xff\xff" + address.packed
    return address.packed


def printable_address(packed: bytes) -> str:
    """The usual text of 16 address bytes: 192.0.2.1 for an IPv4-mapped address."""
    address = IPv6Address(packed)
    return str(address.ipv4_mapped or address)


def encode(batch: Iterable[Received]) -> bytes:
    """The message body of a batch."""
    parts = [b""]
    for at_ns, address, port, body in batch:
        parts.append(_ITEM.pack(at_ns, address, port, len(body)))
        parts.append(body)
    parts[0] = _COUNT.pack(len(parts) // 2)
    return b"".join(parts)


def decode(message: bytes) -> list[Received]:
    """The datagrams of a message body, in order. Raises Malformed when it is not exactly one batch."""
    if len(message) < COUNT_BYTES:
        raise Malformed(f"a batch of datagrams has at least {COUNT_BYTES} bytes, this has {len(message)}")
    (count,) = _COUNT.unpack_from(message)
    if count > MAX_DATAGRAMS:
        raise Malformed(f"a batch announces {count} datagrams; at most {MAX_DATAGRAMS} are allowed")
    batch = []
    position = COUNT_BYTES
    for number in range(1, count + 1):
        start = position + ITEM_BYTES
        if start > len(message):
            raise Malformed(f"a batch ends inside datagram {number} of {count}")
        at_ns, address, port, length = _ITEM.unpack_from(message, position)
        position = start + length
        if position > len(message):
            raise Malformed(f"a batch ends inside datagram {number} of {count}")
        batch.append(Received(at_ns, address, port, message[start:position]))
    if position != len(message):
        raise Malformed(f"a batch of {count} datagrams is followed by {len(message) - position} more bytes")
    return batch


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

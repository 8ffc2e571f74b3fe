"""The body of `monitoring.received`: many datagrams in one binary message, big-endian. Pure.

u32 count, then per datagram: u64 receive instant (ns since 1970), 16 B source address (IPv4 as IPv4-mapped IPv6),
u16 source port, u16 length, the datagram's bytes
"""

import struct
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

from libs.runtime.errors import Malformed

MAX_DATAGRAMS = 4096  # of one batch; ours are far smaller

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

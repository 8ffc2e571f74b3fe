"""Datagrams of our own: a report in the words of ApMon. Pure."""

import math
import struct
from collections.abc import Mapping

from libs.apmon.datagram import XdrType
from libs.runtime.errors import Misconfigured

MAX_REPORT_BYTES = 1440  # one Ethernet frame: a fragmented datagram is lost when any fragment is
MAX_REPORT_TEXT_BYTES = 512  # one text in a report of ours; longer ones are cut
LAST_SEQUENCE = 1_999_999_999  # where the genuine senders start again at 1
REPORT_VERSION = "2.2.9_py"  # any version from 2.2 on announces instance and sequence

_INT32 = struct.Struct(">i")
_REAL64 = struct.Struct(">d")
_INT32_LIMIT = 2**31
_REAL64_BITS = 1024
_JAVA_BLANKS = "".join(map(chr, range(33)))  # what Java's String.trim removes


def following_sequence(sequence: int, count: int = 1) -> int:
    """The number `count` places after `sequence`; LAST_SEQUENCE is followed by 1. One series per destination."""
    return (sequence - 1 + count) % LAST_SEQUENCE + 1


def encode(
    cluster: str,
    node: str,
    values: Mapping[str, str | int | float | None],
    *,
    instance: int,
    sequence: int,
    password: str = "",
) -> list[bytes]:
    """Datagrams of up to MAX_REPORT_BYTES that report `values`, numbered from `sequence` on; none if nothing is known.

    Whole numbers go as INT32 where they fit, all others as REAL64, text as UTF-8 with its length in bytes. Whatever
    MonALISA has no word for is left out: None, blank names and texts, numbers that are not finite. No timestamp is
    sent: the time of receipt is right. Raises Misconfigured when one value with its names exceeds a datagram.
    """
    header = _packed_text(f"v:{REPORT_VERSION}p:{password}")
    names = _packed_text(cluster) + _packed_text(node)
    room_bytes = MAX_REPORT_BYTES - len(header) - 2 * _INT32.size - len(names) - _INT32.size
    groups: list[list[bytes]] = []
    free_bytes = 0
    for item in filter(None, (_packed_parameter(name, value) for name, value in values.items())):
        if len(item) > free_bytes:
            if len(item) > room_bytes:
                raise Misconfigured(
                    f"a report of {cluster!r}, node {node!r}, does not fit {MAX_REPORT_BYTES} bytes; shorten the names"
                )
            groups.append([])
            free_bytes = room_bytes
        groups[-1].append(item)
        free_bytes -= len(item)
    datagrams = []
    for place, group in enumerate(groups):
        numbers = _INT32.pack(instance) + _INT32.pack(following_sequence(sequence, place))
        datagrams.append(b"".join((header, numbers, names, _INT32.pack(len(group)), *group)))
    return datagrams


def _packed_text(text: str) -> bytes:
    encoded = text.encode("utf-8", "replace")
    return _INT32.pack(len(encoded)) + encoded + bytes(-len(encoded) % 4)


def _packed_parameter(name: str, value: str | int | float | None) -> bytes:
    """One parameter, or nothing when MonALISA has no word for it."""
    if not name.strip(_JAVA_BLANKS):
        return b""
    if isinstance(value, str):
        # Cut before packing, on a character's border: half a character would not be UTF-8.
        text = value.encode("utf-8", "replace")[:MAX_REPORT_TEXT_BYTES].decode("utf-8", "ignore")
        if not text.strip(_JAVA_BLANKS):
            return b""
        return _packed_text(name) + _INT32.pack(XdrType.STRING) + _packed_text(text)
    if isinstance(value, int) and -_INT32_LIMIT <= value < _INT32_LIMIT:
        return _packed_text(name) + _INT32.pack(XdrType.INT32) + _INT32.pack(value)
    if value is None or (isinstance(value, int) and value.bit_length() > _REAL64_BITS - 1) or not math.isfinite(value):
        return b""
    return _packed_text(name) + _INT32.pack(XdrType.REAL64) + _REAL64.pack(value)

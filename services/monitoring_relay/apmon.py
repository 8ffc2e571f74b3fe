"""The ApMon datagram: bounded decoding of every generation, encoding of our own reports. Pure.

A datagram is XDR, big-endian, every item padded to 4 bytes:

    header "v:<version>_<language>p:<password>"    absent before version 1: the first string is then the cluster
    instance int32, sequence int32                 from version 2.2 on
    cluster, node                                  strings
    count int32, then count times name string, type int32, value
    timestamp int32, seconds                       honoured from version 1.6 on, present when bytes remain

Senders: https://monalisa.caltech.edu/monalisa__Download__ApMon.html
"""

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from libs.runtime.errors import Misconfigured

MAX_STRING_BYTES = 32_767  # what the genuine receiver takes for one string
MAX_REPORT_BYTES = 1440  # one Ethernet frame: a fragmented datagram is lost when any fragment is
MAX_REPORT_TEXT_BYTES = 512  # one text in a report of ours; longer ones are cut
LAST_SEQUENCE = 1_999_999_999  # where the genuine senders start again at 1
REPORT_VERSION = "2.2.9_py"  # any version from 2.2 on announces instance and sequence

_INT32 = struct.Struct(">i")
_REAL64 = struct.Struct(">d")
_FIRST_WITH_TIMESTAMP = (1, 6)
_FIRST_WITH_SEQUENCE = (2, 2)
_MAX_VERSION_DIGITS = 6
_INT32_LIMIT = 2**31
_REAL64_BITS = 1024
_JAVA_BLANKS = "".join(map(chr, range(33)))  # what Java's String.trim removes


class XdrType(IntEnum):
    """The type code in front of each value. MonALISA refuses a datagram with an INT16, and no sender writes one."""

    STRING = 0
    INT16 = 1
    INT32 = 2
    INT64 = 3
    REAL32 = 4
    REAL64 = 5


_STRING = 0
_NUMBERS = {
    2: (XdrType.INT32, _INT32),
    3: (XdrType.INT64, struct.Struct(">q")),
    4: (XdrType.REAL32, struct.Struct(">f")),
    5: (XdrType.REAL64, _REAL64),
}


class Parameter(NamedTuple):
    """One reported value. Text that was not UTF-8 carries U+FFFD; numbers may be NaN or infinite."""

    name: str
    type: XdrType
    value: str | int | float


@dataclass(slots=True)
class Datagram:
    """What could be read of one datagram; fields the reading did not reach are None.

    `announced` is the parameter count in the datagram (MonALISA refuses a negative one), `timestamp_s` unix seconds as
    sent (0 and below mean: when received), `trailing_bytes` what followed the end. `error` says where and why reading
    stopped; the parameters are then those that were whole.
    """

    header: str | None = None
    version: str | None = None
    password: str | None = None
    instance: int | None = None
    sequence: int | None = None
    cluster: str | None = None
    node: str | None = None
    announced: int | None = None
    parameters: tuple[Parameter, ...] = ()
    timestamp_s: int | None = None
    trailing_bytes: int = 0
    error: str | None = None

    @property
    def ok(self) -> bool:
        """Whether the datagram was whole and followed the protocol."""
        return self.error is None

    @property
    def salvaged(self) -> bool:
        """Whether it was broken, yet at least one whole parameter was kept."""
        return self.error is not None and bool(self.parameters)


class _Broken(Exception):
    """Reading cannot go on; the text is the datagram's error."""


class _Cursor:
    """A position in a datagram; every read checks that the bytes are there."""

    __slots__ = ("body", "end", "position")

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.end = len(body)
        self.position = 0

    def number(self, layout: struct.Struct, what: str) -> int | float:
        try:
            value: int | float = layout.unpack_from(self.body, self.position)[0]
        except struct.error:
            raise _Broken(f"ends at byte {self.end} inside {what}") from None
        self.position += layout.size
        return value

    def integer(self, what: str) -> int:
        try:
            value: int = _INT32.unpack_from(self.body, self.position)[0]
        except struct.error:
            raise _Broken(f"ends at byte {self.end} inside {what}") from None
        self.position += 4
        return value

    def text(self, what: str) -> str:
        length = self.integer(what)
        start = self.position
        if not 0 <= length <= MAX_STRING_BYTES:
            raise _Broken(f"{what} announces {length} bytes; 0 to {MAX_STRING_BYTES} are allowed")
        self.position = start + (length + 3 & ~3)
        if self.position > self.end:
            raise _Broken(f"ends at byte {self.end} inside {what}")
        return self.body[start : start + length].decode("utf-8", "replace")


def decode(body: bytes) -> Datagram:
    """Read one datagram to its end or to its first fault. Never raises; work and result are bounded by the body's size.

    A negative count reads as no parameters. A parameter without a name is a fault: MonALISA would end the list there
    and take the type code for the time. So is a cut timestamp: it would be completed with another sender's bytes.
    """
    found = Datagram()
    parameters: list[Parameter] = []
    try:
        _read(_Cursor(body), found, parameters)
    except _Broken as fault:
        found.error = str(fault)
    found.parameters = tuple(parameters)
    return found


def _read(cursor: _Cursor, found: Datagram, parameters: list[Parameter]) -> None:
    first = cursor.text("the header")
    found.header = first
    version = _read_header(first, found)
    if version >= _FIRST_WITH_SEQUENCE:
        found.instance = cursor.integer("the instance")
        found.sequence = cursor.integer("the sequence number")
    found.cluster = cursor.text("the cluster") if found.version is not None else first
    found.node = cursor.text("the node")
    found.announced = cursor.integer("the parameter count")
    _read_parameters(cursor, found.announced, parameters)
    if version >= _FIRST_WITH_TIMESTAMP and cursor.position < cursor.end:
        found.timestamp_s = cursor.integer("the timestamp")
    found.trailing_bytes = cursor.end - cursor.position


def _read_header(header: str, found: Datagram) -> tuple[int, int]:
    """The version as (major, minor), (0, 0) when there is no header. Python writes 2.17.02-py, the others 2.2.8_j."""
    if not header.startswith("v:"):
        return 0, 0
    # The language may end in p, as cpp does: the mark is the first "p:".
    version, mark, password = header[2:].partition("p:")
    numbers = version.replace("-", "_").partition("_")[0].split(".")
    if not mark or not all(n.isascii() and n.isdigit() and len(n) <= _MAX_VERSION_DIGITS for n in numbers):
        raise _Broken("the header is not v:<version>p:<password>")  # the text stays out: it may hold a password
    found.version = version
    found.password = password
    return int(numbers[0]), int(numbers[1]) if len(numbers) > 1 else 0


def _read_parameters(cursor: _Cursor, announced: int, parameters: list[Parameter]) -> None:
    for number in range(1, announced + 1):
        name = cursor.text("a parameter's name")
        if not name:
            raise _Broken(f"parameter {number} of {announced} has no name")
        code = cursor.integer("a parameter's type")
        if code == _STRING:
            parameters.append(Parameter(name, XdrType.STRING, cursor.text("a parameter's text")))
        elif code in _NUMBERS:
            kind, layout = _NUMBERS[code]
            parameters.append(Parameter(name, kind, cursor.number(layout, "a parameter's value")))
        else:
            raise _Broken(f"parameter {number} of {announced} has the unknown type {code}")


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

"""The ApMon datagram: bounded decoding of every generation. Pure.

A datagram is XDR, big-endian, every item padded to 4 bytes:

    header "v:<version>_<language>p:<password>"    absent before version 1: the first string is then the cluster
    instance int32, sequence int32                 from version 2.2 on
    cluster, node                                  strings
    count int32, then count times name string, type int32, value
    timestamp int32, seconds                       honoured from version 1.6 on, present when bytes remain

Senders: https://monalisa.caltech.edu/monalisa__Download__ApMon.html
"""

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

MAX_STRING_BYTES = 32_767  # what the genuine receiver takes for one string

_INT32 = struct.Struct(">i")
_REAL64 = struct.Struct(">d")
_FIRST_WITH_TIMESTAMP = (1, 6)
_FIRST_WITH_SEQUENCE = (2, 2)
_MAX_VERSION_DIGITS = 6


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

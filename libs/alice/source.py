"""The bytes that came in and were not parsed yet, and the parser's place in them."""

import struct
from collections.abc import Generator
from typing import TypeAlias, TypeVar

from libs.alice import text
from libs.alice.limits import MalformedStream

T = TypeVar("T")
Step: TypeAlias = Generator[None, None, T]
"""A part of the parser: yields None whenever bytes are missing, returns what it parsed."""

U16 = struct.Struct(">H")
U32 = struct.Struct(">I")
I32 = struct.Struct(">i")
I64 = struct.Struct(">q")


class Source:
    """A window of bytes over an endless stream. `offset` counts from the first byte ever fed.

    `window[place:ready]` is there and within the bound: who takes bytes without waiting stays inside and moves `place`.
    """

    def __init__(self) -> None:
        self.window = bytearray()
        self.place = 0
        self.ready = 0
        self._dropped_bytes = 0
        self._end_offset = 0

    @property
    def offset(self) -> int:
        """Bytes parsed so far."""
        return self._dropped_bytes + self.place

    def fault(self, problem: str) -> MalformedStream:
        """An error that says where the parser stands."""
        return MalformedStream(problem, self.offset)

    def feed(self, data: bytes) -> None:
        """Append bytes; what was parsed is let go."""
        del self.window[: self.place]
        self._dropped_bytes += self.place
        self.place = 0
        self.window += data
        self.ready = min(len(self.window), self._end_offset - self._dropped_bytes)

    def bound(self, size_bytes: int) -> None:
        """Refuse to go beyond so many bytes from here until the next call."""
        self._end_offset = self.offset + size_bytes
        self.ready = min(len(self.window), self.place + size_bytes)

    def wait(self, size_bytes: int) -> Step[None]:
        """Until so many bytes are there; refused at once when that would go beyond the bound."""
        if self.offset + size_bytes > self._end_offset:
            raise self.fault("more bytes in one object than allowed")
        while self.place + size_bytes > len(self.window):
            yield

    def take(self, size_bytes: int) -> Step[bytearray]:
        """The next bytes, exactly that many."""
        start = self.place
        if start + size_bytes > self.ready:
            yield from self.wait(size_bytes)
            start = self.place
        self.place = start + size_bytes
        return self.window[start : self.place]

    def peek(self) -> Step[int]:
        """The next byte, which stays."""
        if self.place >= self.ready:
            yield from self.wait(1)
        return self.window[self.place]

    def u8(self) -> Step[int]:
        """One unsigned byte."""
        if self.place >= self.ready:
            yield from self.wait(1)
        found = self.window[self.place]
        self.place += 1
        return found

    def numbers(self, form: struct.Struct) -> Step[tuple[int, ...]]:
        """What the form unpacks."""
        if self.place + form.size > self.ready:
            yield from self.wait(form.size)
        found: tuple[int, ...] = form.unpack_from(self.window, self.place)
        self.place += form.size
        return found

    def number(self, form: struct.Struct) -> Step[int]:
        """One integer of the given form."""
        return (yield from self.numbers(form))[0]

    def characters(self, form: struct.Struct, limit_bytes: int) -> Step[str]:
        """A length of the given form and that much modified UTF-8."""
        size_bytes = yield from self.number(form)
        if not 0 <= size_bytes <= limit_bytes:
            raise self.fault("a string longer than allowed")
        data = bytes((yield from self.take(size_bytes)))
        try:
            return text.decode(data)
        except ValueError as problem:
            raise self.fault("a string that is not modified UTF-8") from problem

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
    """A window of bytes over an endless stream. `offset` counts from the first byte ever fed."""

    def __init__(self) -> None:
        self._window = bytearray()
        self._place = 0
        self._dropped_bytes = 0
        self._end_offset = 0

    @property
    def offset(self) -> int:
        """Bytes parsed so far."""
        return self._dropped_bytes + self._place

    def fault(self, problem: str) -> MalformedStream:
        """An error that says where the parser stands."""
        return MalformedStream(problem, self.offset)

    def feed(self, data: bytes) -> None:
        """Append bytes; what was parsed is let go."""
        del self._window[: self._place]
        self._dropped_bytes += self._place
        self._place = 0
        self._window += data

    def bound(self, size_bytes: int) -> None:
        """Refuse to go beyond so many bytes from here until the next call."""
        self._end_offset = self.offset + size_bytes

    def take(self, size_bytes: int) -> Step[bytearray]:
        """The next bytes, exactly that many; refused at once when that would go beyond the bound."""
        if self.offset + size_bytes > self._end_offset:
            raise self.fault("more bytes in one object than allowed")
        while len(self._window) - self._place < size_bytes:
            yield
        start = self._place
        self._place = start + size_bytes
        return self._window[start : self._place]

    def u8(self) -> Step[int]:
        """One unsigned byte."""
        return (yield from self.take(1))[0]

    def number(self, form: struct.Struct) -> Step[int]:
        """One integer of the given form."""
        found: int = form.unpack((yield from self.take(form.size)))[0]
        return found

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

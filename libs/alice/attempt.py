"""An attempt at a value whose bytes are probably all there already, as those of nearly every reply are.

The reader's generators can pause at any byte, and that costs more than the parsing. So a value is first attempted by
plain calls. The attempt takes it whole and within all bounds, or takes nothing and says PENDING: bytes are missing, or
the value is rare, too much or wrong, and then the generators wait for it or name the fault and its place. Each value is
attempted once, so bytes are looked at once per level of nesting at most, in whatever pieces they come.
"""

import enum
import struct
from collections.abc import Callable
from typing import Final, Literal, TypeAlias

from libs.alice import nodes, text
from libs.alice.handles import Handles
from libs.alice.limits import Limits
from libs.alice.nodes import Array, ClassDescriptor, Content, Enumerator, Field, Instance, Part, Text, Value
from libs.alice.source import I32, I64, U16, U32, Source

SIGNATURES = frozenset(map(ord, nodes.REFERENCES))
NUMBERS = frozenset(map(ord, nodes.PRIMITIVES))


class _Outcome(enum.Enum):
    PENDING = enum.auto()


PENDING: Final = _Outcome.PENDING
Pending: TypeAlias = Literal[_Outcome.PENDING]


class _NotNow(Exception):
    """Left to the generators."""


class Attempt:
    """Takes whole values from the source. A depth is that of the value in the top-level object."""

    def __init__(self, source: Source, handles: Handles, limits: Limits) -> None:
        self._source = source
        self._handles = handles
        self._values = handles.values
        self._limits = limits
        self._window = source.window
        self._place = 0
        self._by_code: dict[int, Callable[[int], Value]] = {
            nodes.STRING: self._string,
            nodes.OBJECT: self._instance,
            nodes.ARRAY: self._array,
            nodes.ENUM: self._enumerator,
            nodes.CLASS_DESCRIPTOR: self._descriptor,
        }

    def value(self, depth: int) -> Value | Pending:
        """The next value, or PENDING with nothing taken."""
        source, handles = self._source, self._handles
        known, parts = len(handles.values), handles.parts
        self._place = source.place
        try:
            found = self._value(depth)
            is_whole = self._place <= source.ready and handles.are_within_bounds
        except (_NotNow, IndexError, struct.error, ValueError):
            is_whole = False
        if is_whole:
            source.place = self._place
            return found
        del handles.values[known:]
        handles.parts = parts
        return PENDING

    def _value(self, depth: int) -> Value:
        window, place = self._window, self._place
        code = window[place]
        if code == nodes.REFERENCE:
            self._place = place + 5
            handle: int = U32.unpack_from(window, place + 1)[0] - nodes.FIRST_HANDLE
            if handle < 0:
                raise _NotNow
            return self._values[handle]
        self._place = place + 1
        if code == nodes.NULL:
            return None
        read = self._by_code.get(code)
        if read is None or depth >= self._limits.depth:
            raise _NotNow
        return read(depth)

    def _characters(self) -> bytearray:
        """A short string's bytes."""
        window, place = self._window, self._place
        size_bytes = window[place] << 8 | window[place + 1]
        self._place = end = place + 2 + size_bytes
        if end > self._source.ready or size_bytes > self._limits.text_bytes:
            raise _NotNow
        return window[place + 2 : end]

    def _name(self) -> str:
        data = self._characters()
        return data.decode("ascii") if data.isascii() else text.decode(bytes(data))

    def _string(self, _depth: int) -> Text:
        data = self._characters()
        found = Text(data, "ascii") if data.isascii() else Text(text.decode(bytes(data)))
        self._values.append(found)
        return found

    def _annotation(self, depth: int) -> list[Content]:
        window = self._window
        found: list[Content] = []
        while (code := window[self._place]) != nodes.END_BLOCK_DATA:
            if code == nodes.BLOCK_DATA:
                start = self._place + 2
                end = start + window[start - 1]
                if end > self._source.ready:
                    raise _NotNow
                found.append(bytes(window[start:end]))
                self._place = end
            else:
                found.append(self._value(depth))
        self._place += 1
        return found

    def _class(self, depth: int) -> ClassDescriptor | None:
        found = self._value(depth + 1)
        if found is not None and not (isinstance(found, ClassDescriptor) and found.is_complete):
            raise _NotNow
        return found

    def _descriptor(self, depth: int) -> ClassDescriptor:
        window = self._window
        name = self._name()
        made = ClassDescriptor(name, I64.unpack_from(window, self._place)[0], 0, (), is_complete=False)
        self._values.append(made)
        made.flags = window[self._place + 8]
        count = U16.unpack_from(window, self._place + 9)[0]
        self._place += 11
        if count > self._limits.fields:
            raise _NotNow
        made.set_fields(self._fields(count, depth))
        made.annotation = self._annotation(depth + 1)
        made.parent = self._class(depth)
        made.is_complete = True
        if len(made.hierarchy()) > self._limits.ancestors:
            raise _NotNow
        return made

    def _fields(self, count: int, depth: int) -> tuple[Field, ...]:
        window = self._window
        found: list[Field] = []
        last = 0
        for _ in range(count):
            code = window[self._place]
            self._place += 1
            name = self._name()
            if code in NUMBERS and last not in SIGNATURES:
                found.append(Field(chr(code), name))
            elif code in SIGNATURES and isinstance(signature := self._value(depth + 1), Text):
                found.append(Field(chr(code), name, signature))
            else:
                raise _NotNow
            last = code
        return tuple(found)

    def _instance(self, depth: int) -> Instance:
        descriptor = self._class(depth)
        if descriptor is None:
            raise _NotNow
        made = Instance(descriptor)
        self._values.append(made)
        window, parts = self._window, made.parts
        depth += 1
        for level in descriptor.hierarchy():
            flags = level.flags
            if not flags & nodes.SERIALIZABLE:
                raise _NotNow
            fields: dict[str, Value] = {}
            if level.primitive_names:
                numbers = level.primitives.unpack_from(window, self._place)
                self._place += level.primitives.size
                fields.update(zip(level.primitive_names, numbers, strict=True))
            for name in level.reference_names:
                if window[self._place] == nodes.NULL:
                    fields[name] = None
                    self._place += 1
                else:
                    fields[name] = self._value(depth)
            parts.append(Part(level, fields, self._annotation(depth) if flags & nodes.WRITE_METHOD else None))
        self._handles.parts += len(parts)
        return made

    def _array(self, depth: int) -> Array:
        """An array of objects or of bytes."""
        descriptor = self._class(depth)
        if descriptor is None or not nodes.is_array_name(descriptor.name):
            raise _NotNow
        made = Array(descriptor, b"")
        self._values.append(made)
        count: int = I32.unpack_from(self._window, self._place)[0]
        start = self._place + 4
        code = descriptor.name[1]
        if code == "B" and 0 <= count <= self._source.ready - start:
            made.items = bytes(self._window[start : start + count])
            self._place = start + count
        elif code in nodes.REFERENCES and 0 <= count <= self._limits.array_items:
            self._place = start
            made.items = [self._value(depth + 1) for _ in range(count)]
        else:
            raise _NotNow
        return made

    def _enumerator(self, depth: int) -> Enumerator:
        descriptor = self._class(depth)
        made = Enumerator(descriptor, "") if descriptor is not None else None
        if made is None:
            raise _NotNow
        self._values.append(made)
        constant = self._value(depth + 1)
        if not isinstance(constant, Text):
            raise _NotNow
        made.constant = constant
        return made

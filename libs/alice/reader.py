"""Reads a Java object stream incrementally: bytes in, objects out. No I/O.

One Reader follows one direction of one connection from its first byte: handles point back across objects until a
TC_RESET. The parser is a chain of generators that pause where bytes are missing, so no byte is looked at twice.
Grammar: https://docs.oracle.com/en/java/javase/17/docs/specs/serialization/protocol.html
"""

import struct

from libs.alice import nodes
from libs.alice.attempt import PENDING, Attempt
from libs.alice.handles import AbortedByWriter, Handles
from libs.alice.limits import Limits, MalformedStream
from libs.alice.nodes import (
    Aborted,
    Array,
    ClassDescriptor,
    ClassRef,
    Content,
    Enumerator,
    Field,
    Instance,
    Part,
    Text,
    TopLevel,
    Value,
)
from libs.alice.source import I32, I64, U16, U32, Source, Step


class Reader:
    """One direction of a connection: `feed` it every byte from the first on, get the objects as they complete.

    `resets` counts the TC_RESETs met. After a MalformedStream the reader is spent: every further feed raises it again.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self.resets = 0
        self._limits = limits or Limits()
        self._source = Source()
        self._handles = Handles(self._source, self._limits)
        self._attempt = Attempt(self._source, self._handles, self._limits)
        self._inside: list[str] = []
        self._between_objects = False
        self._finished: list[TopLevel] = []
        self._failure: MalformedStream | None = None
        self._machine = self._stream()

    @property
    def offset(self) -> int:
        """Bytes parsed so far."""
        return self._source.offset

    @property
    def is_mid_object(self) -> bool:
        """True while bytes are missing that must come: inside the stream header or inside an object."""
        return not self._between_objects

    @property
    def inside(self) -> str | None:
        """The class of the object that is being read, None outside of objects."""
        return self._inside[-1] if self._inside else None

    def feed(self, data: bytes) -> list[TopLevel]:
        """Take bytes as they came and return the objects they completed.

        Raises MalformedStream; objects complete before the fault are returned first, the error is raised next time.
        """
        if self._failure is None:
            self._source.feed(data)
            try:
                next(self._machine)
            except MalformedStream as fault:
                self._failure = MalformedStream(fault.problem, fault.offset, self.inside)
        found, self._finished = self._finished, []
        if self._failure is not None and not found:
            raise self._failure
        return found

    def close(self) -> None:
        """Let go of all that was read, at once: what can be referred back to may be much. Nothing is fed any more."""
        self._machine.close()
        self._handles.forget()

    def _stream(self) -> Step[None]:
        """The whole stream: header, then objects, block data and resets without end."""
        self._source.bound(len(nodes.MAGIC))
        if (yield from self._source.take(len(nodes.MAGIC))) != nodes.MAGIC:
            raise MalformedStream("no Java object stream: wrong header", 0)
        while True:
            self._between_objects = True
            self._source.bound(self._limits.object_bytes)
            code = yield from self._source.peek()
            self._between_objects = False
            if code == nodes.RESET:
                self._source.place += 1
                self.resets += 1
                self._handles.forget()
                continue
            made: TopLevel
            try:
                made = yield from self._content(code, 0)
            except AbortedByWriter as stop:
                self._handles.forget()
                made = Aborted(stop.exception)
            self._finished.append(made)
            self._inside.clear()
            if self._source.offset - self._handles.reset_offset > self._limits.stream_bytes:
                raise self._source.fault("more bytes without a reset than allowed")

    def _content(self, code: int, depth: int) -> Step[Content]:
        """What may stand at the top and in annotations: a value or block data; its code was looked at, not taken."""
        if code == nodes.BLOCK_DATA:
            self._source.place += 1
            return bytes((yield from self._source.take((yield from self._source.u8()))))
        if code == nodes.BLOCK_DATA_LONG:
            self._source.place += 1
            return bytes((yield from self._source.take((yield from self._source.number(U32)))))
        return (yield from self._value(depth))

    def _value(self, depth: int) -> Step[Value]:
        found = self._attempt.value(depth)
        if found is PENDING:
            return (yield from self._typed((yield from self._source.u8()), depth))
        return found

    def _typed(self, code: int, depth: int) -> Step[Value]:
        if code == nodes.NULL:
            return None
        if code == nodes.REFERENCE:
            return (yield from self._reference())
        if depth >= self._limits.depth:
            raise self._source.fault("objects nested deeper than allowed")
        if code == nodes.STRING:
            return (yield from self._new_string(U16))
        if code == nodes.OBJECT:
            return (yield from self._instance(depth))
        if code == nodes.ARRAY:
            return (yield from self._array(depth))
        if code == nodes.ENUM:
            return (yield from self._enumerator(depth))
        if code == nodes.LONG_STRING:
            return (yield from self._new_string(I64))
        if code in (nodes.CLASS_DESCRIPTOR, nodes.PROXY_DESCRIPTOR):
            return (yield from self._new_descriptor(code, depth))
        if code == nodes.CLASS:
            reference = ClassRef((yield from self._descriptor(depth)))
            self._handles.remember(reference)
            return reference
        if code == nodes.EXCEPTION:
            self._handles.forget()
            raise AbortedByWriter((yield from self._value(depth + 1)))
        raise self._source.fault(f"type code 0x{code:02x} is not allowed here")

    def _reference(self) -> Step[Value]:
        handle = (yield from self._source.number(I32)) - nodes.FIRST_HANDLE
        if not 0 <= handle < len(self._handles.values):
            raise self._source.fault("a handle that was never given")
        return self._handles.values[handle]

    def _new_string(self, form: struct.Struct) -> Step[Text]:
        found = Text((yield from self._source.characters(form, self._limits.text_bytes)))
        self._handles.remember(found)
        return found

    def _string(self, depth: int) -> Step[Text]:
        """A string, new or referred to, where the grammar allows nothing else."""
        found = yield from self._value(depth)
        if not isinstance(found, Text):
            raise self._source.fault("something else where a string must stand")
        return found

    def _annotation(self, depth: int) -> Step[list[Content]]:
        """Contents up to the end mark."""
        found: list[Content] = []
        while (code := (yield from self._source.peek())) != nodes.END_BLOCK_DATA:
            found.append((yield from self._content(code, depth)))
        self._source.place += 1
        return found

    def _descriptor(self, depth: int) -> Step[ClassDescriptor | None]:
        """A class descriptor, new, referred to or null; not one still being read, which could become its own parent."""
        found = yield from self._value(depth + 1)
        if found is not None and not (isinstance(found, ClassDescriptor) and found.is_complete):
            raise self._source.fault("something else where a class descriptor must stand")
        return found

    def _new_descriptor(self, code: int, depth: int) -> Step[ClassDescriptor]:
        made = ClassDescriptor("", 0, 0, (), is_complete=False)
        if code == nodes.PROXY_DESCRIPTOR:
            self._handles.remember(made)
            made.interfaces = yield from self._interfaces()
            made.set_fields(())
            made.name, made.flags = "$Proxy", nodes.SERIALIZABLE
        else:
            made.name = yield from self._source.characters(U16, self._limits.text_bytes)
            made.serial_version = yield from self._source.number(I64)
            self._handles.remember(made)
        self._inside.append(made.name)
        if code == nodes.CLASS_DESCRIPTOR:
            made.flags = yield from self._source.u8()
            made.set_fields((yield from self._fields(depth)))
        made.annotation = yield from self._annotation(depth + 1)
        made.parent = yield from self._descriptor(depth)
        if len(made.hierarchy()) > self._limits.ancestors:
            raise self._source.fault("more ancestors than allowed")
        made.is_complete = True
        self._inside.pop()
        return made

    def _interfaces(self) -> Step[tuple[str, ...]]:
        count = yield from self._source.number(I32)
        if not 0 <= count <= self._limits.fields:
            raise self._source.fault("more interfaces than allowed")
        names: list[str] = []
        for _ in range(count):
            names.append((yield from self._source.characters(U16, self._limits.text_bytes)))
        return tuple(names)

    def _fields(self, depth: int) -> Step[tuple[Field, ...]]:
        count = yield from self._source.number(U16)
        if count > self._limits.fields:
            raise self._source.fault("more fields than allowed")
        found: list[Field] = []
        for _ in range(count):
            code = chr((yield from self._source.u8()))
            name = yield from self._source.characters(U16, self._limits.text_bytes)
            if code in nodes.PRIMITIVES and not (found and found[-1].signature is not None):
                found.append(Field(code, name))
            elif code in nodes.REFERENCES:
                found.append(Field(code, name, (yield from self._string(depth + 1))))
            else:
                raise self._source.fault("a field of unknown type or out of order")
        return tuple(found)

    def _instance(self, depth: int) -> Step[Instance]:
        descriptor = yield from self._descriptor(depth)
        if descriptor is None:
            raise self._source.fault("an object without a class")
        made = Instance(descriptor)
        self._handles.remember(made)
        self._inside.append(descriptor.name)
        for level in descriptor.hierarchy():
            self._handles.count_part()
            made.parts.append((yield from self._part(level, depth + 1)))
        self._inside.pop()
        return made

    def _part(self, level: ClassDescriptor, depth: int) -> Step[Part]:
        """The data of one class of the hierarchy."""
        made = Part(level)
        if level.flags & nodes.SERIALIZABLE:
            numbers = yield from self._source.numbers(level.primitives)
            fields: dict[str, Value] = dict(zip(level.primitive_names, numbers, strict=True))
            made.fields = fields
            for name in level.reference_names:
                fields[name] = yield from self._value(depth)
            has_annotation = bool(level.flags & nodes.WRITE_METHOD)
        else:
            has_annotation = bool(level.flags & nodes.EXTERNALIZABLE)
            if has_annotation and not level.flags & nodes.BLOCK_DATA_MODE:
                raise self._source.fault("an externalizable object of the old protocol, whose end cannot be found")
        if has_annotation:
            made.annotation = yield from self._annotation(depth)
        return made

    def _array(self, depth: int) -> Step[Array]:
        descriptor = yield from self._descriptor(depth)
        if descriptor is None or not nodes.is_array_name(descriptor.name):
            raise self._source.fault("an array without an array's class")
        made = Array(descriptor, b"")
        self._handles.remember(made)
        count = yield from self._source.number(I32)
        if not 0 <= count <= (self._limits.object_bytes if descriptor.name == "[B" else self._limits.array_items):
            raise self._source.fault("an array longer than allowed")
        self._inside.append(descriptor.name)
        code = descriptor.name[1]
        if code == "B":
            made.items = bytes((yield from self._source.take(count)))
        elif code in nodes.PRIMITIVES:
            form = struct.Struct(f">{count}{nodes.PRIMITIVES[code]}")
            made.items = list(form.unpack((yield from self._source.take(form.size))))
        else:
            made.items = items = []
            for _ in range(count):
                items.append((yield from self._value(depth + 1)))
        self._inside.pop()
        return made

    def _enumerator(self, depth: int) -> Step[Enumerator]:
        descriptor = yield from self._descriptor(depth)
        if descriptor is None:
            raise self._source.fault("an enum constant without a class")
        made = Enumerator(descriptor, "")
        self._handles.remember(made)
        made.constant = yield from self._string(depth + 1)
        return made

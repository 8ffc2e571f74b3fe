"""Writes a Java object stream: values in, bytes out. No I/O. The mirror of the reader, byte for byte.

One Writer follows one direction of one connection, since objects written before are only referred to afterwards.
"""

import struct

from libs.alice import nodes, text
from libs.alice.limits import MalformedStream
from libs.alice.nodes import (
    Aborted,
    Array,
    ClassDescriptor,
    ClassRef,
    Content,
    Enumerator,
    Field,
    Instance,
    Text,
    TopLevel,
)

U8 = struct.Struct(">B")
U16 = struct.Struct(">H")
U32 = struct.Struct(">I")
I64 = struct.Struct(">q")
SHORT_BLOCK_BYTES = 0xFF
SHORT_STRING_BYTES = 0xFFFF
HEADER = nodes.MAGIC


class Writer:
    """Top-level objects to bytes; the connection starts with HEADER, which is not written here.

    Nodes and Text keep one handle each by identity, plain `str` one by value; all of it is held until a reset.
    """

    def __init__(self, depth: int = 64) -> None:
        self._depth = depth
        self._out = bytearray()
        self._by_identity: dict[int, int] = {}
        self._by_value: dict[str, int] = {}
        self._next_handle = nodes.FIRST_HANDLE
        self._kept: list[object] = []

    def reset(self) -> bytes:
        """Forget all handles; the returned byte tells the other side to do the same."""
        self._forget_handles()
        return U8.pack(nodes.RESET)

    def write(self, value: TopLevel) -> bytes:
        """The bytes of one top-level object or piece of block data.

        MalformedStream when it is nested deeper than allowed; nothing of it is then on its way, and the stream is reset
        in front of the next object, since handles were given that the other side never saw.
        """
        pending, self._out = self._out, bytearray()
        try:
            if isinstance(value, Aborted):
                self._abort(value)
            else:
                self._content(value, 0)
        except MalformedStream:
            self._out = bytearray(self.reset())
            raise
        written, self._out = bytes(pending + self._out), bytearray()
        return written

    def _forget_handles(self) -> None:
        self._by_identity.clear()
        self._by_value.clear()
        self._kept.clear()
        self._next_handle = nodes.FIRST_HANDLE

    def _abort(self, value: Aborted) -> None:
        self._forget_handles()
        self._out.append(nodes.EXCEPTION)
        self._content(value.exception, 0)
        self._forget_handles()

    def _remember(self, made: object) -> None:
        """Give the value the next handle and keep it alive, so that its identity stays its own."""
        self._by_identity[id(made)] = self._next_handle
        self._next_handle += 1
        self._kept.append(made)

    def _refer(self, handle: int) -> None:
        self._out.append(nodes.REFERENCE)
        self._out += U32.pack(handle)

    def _content(self, value: Content, depth: int) -> None:
        if isinstance(value, bytes):
            self._block(value)
        elif value is None:
            self._out.append(nodes.NULL)
        elif isinstance(value, str):
            self._string(value)
        elif (handle := self._by_identity.get(id(value))) is not None:
            self._refer(handle)
        elif depth >= self._depth:
            raise MalformedStream("objects nested deeper than allowed", len(self._out))
        else:
            self._new(value, depth)

    def _new(self, value: Content, depth: int) -> None:
        """What stands in the stream for the first time."""
        if isinstance(value, Instance):
            self._instance(value, depth)
        elif isinstance(value, Array):
            self._array(value, depth)
        elif isinstance(value, Enumerator):
            self._out.append(nodes.ENUM)
            self._content(value.descriptor, depth + 1)
            self._remember(value)
            self._string(value.constant)
        elif isinstance(value, ClassDescriptor):
            self._descriptor(value, depth)
        elif isinstance(value, ClassRef):
            self._out.append(nodes.CLASS)
            self._content(value.descriptor, depth + 1)
            self._remember(value)
        else:
            raise TypeError(f"{type(value).__name__} does not travel as an object")

    def _block(self, data: bytes) -> None:
        if len(data) <= SHORT_BLOCK_BYTES:
            self._out.append(nodes.BLOCK_DATA)
            self._out.append(len(data))
        else:
            self._out.append(nodes.BLOCK_DATA_LONG)
            self._out += U32.pack(len(data))
        self._out += data

    def _characters(self, value: str) -> None:
        data = text.encode(value)
        self._out += U16.pack(len(data))
        self._out += data

    def _string(self, value: str) -> None:
        known = self._by_identity.get(id(value)) if isinstance(value, Text) else self._by_value.get(value)
        if known is not None:
            self._refer(known)
            return
        if not isinstance(value, Text):
            self._by_value[value] = self._next_handle
        self._remember(value)
        data = text.encode(value)
        if len(data) <= SHORT_STRING_BYTES:
            self._out.append(nodes.STRING)
            self._out += U16.pack(len(data))
        else:
            self._out.append(nodes.LONG_STRING)
            self._out += I64.pack(len(data))
        self._out += data

    def _descriptor(self, made: ClassDescriptor, depth: int) -> None:
        if made.interfaces is not None:
            self._out.append(nodes.PROXY_DESCRIPTOR)
            self._remember(made)
            self._out += U32.pack(len(made.interfaces))
            for name in made.interfaces:
                self._characters(name)
        else:
            self._out.append(nodes.CLASS_DESCRIPTOR)
            self._characters(made.name)
            self._out += I64.pack(made.serial_version)
            self._remember(made)
            self._out.append(made.flags)
            self._out += U16.pack(len(made.fields))
            for field in made.fields:
                self._field(field)
        self._annotation(made.annotation, depth + 1)
        self._content(made.parent, depth + 1)

    def _field(self, field: Field) -> None:
        self._out += field.code.encode("ascii")
        self._characters(field.name)
        if field.signature is not None:
            self._string(field.signature)

    def _annotation(self, contents: list[Content], depth: int) -> None:
        for content in contents:
            self._content(content, depth)
        self._out.append(nodes.END_BLOCK_DATA)

    def _instance(self, made: Instance, depth: int) -> None:
        self._out.append(nodes.OBJECT)
        self._content(made.descriptor, depth + 1)
        self._remember(made)
        for part in made.parts:
            level = part.descriptor
            if level.flags & nodes.SERIALIZABLE:
                self._out += level.primitives.pack(*(part.fields[name] for name in level.primitive_names))
                for name in level.reference_names:
                    self._content(part.fields[name], depth + 1)
            if part.annotation is not None:
                self._annotation(part.annotation, depth + 1)

    def _array(self, made: Array, depth: int) -> None:
        self._out.append(nodes.ARRAY)
        self._content(made.descriptor, depth + 1)
        self._remember(made)
        self._out += U32.pack(len(made.items))
        code = made.descriptor.name[1]
        if isinstance(made.items, bytes):
            self._out += made.items
        elif code in nodes.PRIMITIVES:
            self._out += struct.pack(f">{len(made.items)}{nodes.PRIMITIVES[code]}", *made.items)
        else:
            for item in made.items:
                self._content(item, depth + 1)

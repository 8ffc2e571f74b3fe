"""Writes one direction of a Java object stream from generic nodes, as ObjectOutputStream would."""

import struct

from tests.world.central_services.java_nodes import (
    BASE_HANDLE,
    PRIMITIVES,
    SC_WRITE_METHOD,
    TC_ARRAY,
    TC_BLOCKDATA,
    TC_BLOCKDATALONG,
    TC_CLASS,
    TC_CLASSDESC,
    TC_ENDBLOCKDATA,
    TC_ENUM,
    TC_LONGSTRING,
    TC_NULL,
    TC_OBJECT,
    TC_REFERENCE,
    TC_RESET,
    TC_STRING,
    Array,
    ClassDesc,
    ClassMention,
    Constant,
    Instance,
    Node,
    Text,
    Value,
    encode_modified_utf8,
    literal,
)

Named = Text | Instance | Constant | Array | ClassMention | ClassDesc


class StreamWriter:
    """The table of handles lives until `reset`; the header is the caller's to send."""

    def __init__(self) -> None:
        # The nodes are kept as keys (by identity or, for classes and constants, by value): ids alone could be reused.
        self._handles: dict[Named, int] = {}
        self._out = bytearray()

    def write(self, node: Node) -> bytes:
        """The bytes of one top-level object."""
        self._out = bytearray()
        self._content(node)
        return bytes(self._out)

    def reset(self) -> bytes:
        """Forgets all handles; the byte that tells the reader to do the same."""
        self._handles.clear()
        return bytes((TC_RESET,))

    def _pack(self, layout: str, *values: int) -> None:
        self._out += struct.pack(layout, *values)

    def _keep(self, node: Named) -> None:
        self._handles[node] = BASE_HANDLE + len(self._handles)

    def _referred(self, node: Named) -> bool:
        handle = self._handles.get(node)
        if handle is None:
            return False
        self._pack(">Bi", TC_REFERENCE, handle)
        return True

    def _content(self, node: Node) -> None:
        if node is None:
            self._pack(">B", TC_NULL)
        elif self._referred(node):
            pass
        elif isinstance(node, Text):
            self._text(node)
        elif isinstance(node, Instance):
            self._instance(node)
        elif isinstance(node, Array):
            self._array(node)
        elif isinstance(node, Constant):
            self._pack(">B", TC_ENUM)
            self._desc(node.desc)
            self._keep(node)
            self._content(literal(node.name))
        else:
            self._pack(">B", TC_CLASS)
            self._desc(node.desc)
            self._keep(node)

    def _utf(self, value: str) -> None:
        data = encode_modified_utf8(value)
        self._pack(">H", len(data))
        self._out += data

    def _text(self, text: Text) -> None:
        data = encode_modified_utf8(text.value)
        if len(data) > 0xFFFF:
            self._pack(">Bq", TC_LONGSTRING, len(data))
        else:
            self._pack(">BH", TC_STRING, len(data))
        self._keep(text)
        self._out += data

    def _instance(self, instance: Instance) -> None:
        self._pack(">B", TC_OBJECT)
        self._desc(instance.desc)
        self._keep(instance)
        for desc in instance.desc.lineage():
            for described in desc.fields:
                self._value(described.kind, instance.fields[described.name])
            if desc.flags & SC_WRITE_METHOD:
                self._annotation(instance.annotations.get(desc.name, []))

    def _array(self, array: Array) -> None:
        self._pack(">B", TC_ARRAY)
        self._desc(array.desc)
        self._keep(array)
        self._pack(">i", len(array.items))
        if isinstance(array.items, bytes):
            self._out += array.items
            return
        for item in array.items:
            self._value(array.desc.name[1], item)

    def _value(self, kind: str, value: Value) -> None:
        layout = PRIMITIVES.get(kind)
        if layout is not None:
            self._out += layout.pack(value)
        elif isinstance(value, int | float):
            raise TypeError(f"a primitive {value!r} where an object belongs")
        else:
            self._content(value)

    def _annotation(self, added: list[Node | bytes]) -> None:
        for item in added:
            if not isinstance(item, bytes):
                self._content(item)
            elif len(item) > 0xFF:
                self._pack(">Bi", TC_BLOCKDATALONG, len(item))
                self._out += item
            else:
                self._pack(">BB", TC_BLOCKDATA, len(item))
                self._out += item
        self._pack(">B", TC_ENDBLOCKDATA)

    def _desc(self, desc: ClassDesc | None) -> None:
        if desc is None:
            self._pack(">B", TC_NULL)
            return
        if self._referred(desc):
            return
        self._pack(">B", TC_CLASSDESC)
        self._utf(desc.name)
        self._pack(">q", desc.suid)
        self._keep(desc)
        self._pack(">BH", desc.flags, len(desc.fields))
        for described in desc.fields:
            self._pack(">B", ord(described.kind))
            self._utf(described.name)
            if described.signature:
                # The virtual machine interns type signatures: one string object for all of them.
                self._content(literal(described.signature))
        self._pack(">B", TC_ENDBLOCKDATA)
        self._desc(desc.parent)

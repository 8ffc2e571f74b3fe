"""Reads one direction of a Java object stream, bytes in as they arrive, whole top-level objects out."""

import struct
from collections.abc import Callable

from tests.world.central_services.java_nodes import (
    BASE_HANDLE,
    PRIMITIVES,
    SC_ENUM,
    SC_SERIALIZABLE,
    SC_WRITE_METHOD,
    STREAM_HEADER,
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
    Field,
    Instance,
    Node,
    StreamFault,
    Text,
    Value,
    decode_modified_utf8,
)

MAX_OBJECT_BYTES = 1 << 20
MAX_DEPTH = 100
MAX_HANDLES = 1 << 20


class _Incomplete(Exception):
    """The object goes on in bytes that have not arrived."""


class StreamReader:
    """The table of handles lives as long as the connection; `resets` counts the TC_RESETs met.

    A class for which `known` is false is a fault, as for a virtual machine that lacks it; `settle` is called with each
    instance once it is read (readObject and readResolve of the real ones).
    """

    def __init__(
        self, known: Callable[[ClassDesc], bool] = lambda _: True, settle: Callable[[Instance], None] = lambda _: None
    ) -> None:
        self.resets = 0
        self._known = known
        self._settle = settle
        self._buffer = bytearray()
        self._at = 0
        self._depth = 0
        self._headed = False
        self._handles: list[Node | ClassDesc] = []

    def feed(self, data: bytes) -> list[Node]:
        """Adds received bytes; returns the top-level objects now complete. Raises StreamFault on anything else."""
        self._buffer += data
        found: list[Node] = []
        while self._buffer:
            if not self._headed:
                if len(self._buffer) < len(STREAM_HEADER):
                    break
                if self._buffer[:4] != STREAM_HEADER:
                    raise StreamFault("the stream does not begin with the header of Java serialization")
                self._drop(4)
                self._headed = True
            elif self._buffer[0] == TC_RESET:
                self._drop(1)
                self._handles.clear()
                self.resets += 1
            elif not self._take_object(found):
                break
        return found

    def _drop(self, size: int) -> None:
        del self._buffer[:size]

    def _take_object(self, found: list[Node]) -> bool:
        known = len(self._handles)
        self._at = self._depth = 0
        try:
            found.append(self._content())
        except _Incomplete:
            del self._handles[known:]
            if len(self._buffer) > MAX_OBJECT_BYTES:
                raise StreamFault("an object is larger than this reader accepts") from None
            return False
        self._drop(self._at)
        return True

    def _bytes(self, size: int) -> bytes:
        if size < 0 or size > MAX_OBJECT_BYTES:
            raise StreamFault("a length is out of bounds")
        end = self._at + size
        if end > len(self._buffer):
            raise _Incomplete
        taken = bytes(self._buffer[self._at : end])
        self._at = end
        return taken

    def _number(self, layout: str) -> int:
        (value,) = struct.unpack(layout, self._bytes(struct.calcsize(layout)))
        return int(value)

    def _utf(self, layout: str = ">H") -> str:
        return decode_modified_utf8(self._bytes(self._number(layout)))

    def _keep(self, node: Node | ClassDesc) -> int:
        if len(self._handles) >= MAX_HANDLES:
            raise StreamFault("more handles than this reader accepts")
        self._handles.append(node)
        return len(self._handles) - 1

    def _referred(self) -> Node | ClassDesc:
        index = self._number(">i") - BASE_HANDLE
        if not 0 <= index < len(self._handles):
            raise StreamFault("a reference to a handle that does not exist")
        return self._handles[index]

    def _content(self) -> Node:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise StreamFault("objects are nested too deeply")
        node = self._content_of(self._number(">B"))
        self._depth -= 1
        return node

    def _content_of(self, code: int) -> Node:
        if code == TC_NULL:
            return None
        if code == TC_REFERENCE:
            node = self._referred()
            if isinstance(node, ClassDesc):
                raise StreamFault("a reference to a class where an object belongs")
            return node
        beginnings: dict[int, Callable[[], Node]] = {
            TC_STRING: self._text,
            TC_LONGSTRING: lambda: self._text(">q"),
            TC_OBJECT: self._instance,
            TC_ARRAY: self._array,
            TC_ENUM: self._constant,
            TC_CLASS: self._mention,
        }
        if code not in beginnings:
            raise StreamFault(f"type code 0x{code:02x} where an object belongs")
        return beginnings[code]()

    def _text(self, layout: str = ">H") -> Text:
        text = Text(self._utf(layout))
        self._keep(text)
        return text

    def _mention(self) -> ClassMention:
        mention = ClassMention(self._needed_desc())
        self._keep(mention)
        return mention

    def _instance(self) -> Instance:
        instance = Instance(self._needed_desc())
        self._keep(instance)
        for desc in instance.desc.lineage():
            for described in desc.fields:
                instance.fields[described.name] = self._value(described.kind)
            if desc.flags & SC_WRITE_METHOD:
                instance.annotations[desc.name] = self._annotation()
        self._settle(instance)
        return instance

    def _constant(self) -> Constant:
        desc = self._needed_desc()
        # The constant takes its handle before its name does, but cannot exist before the name is read.
        slot = self._keep(None)
        name = self._content()
        if not isinstance(name, Text):
            raise StreamFault("an enum constant without a name")
        constant = Constant(desc, name.value)
        self._handles[slot] = constant
        return constant

    def _array(self) -> Array:
        desc = self._needed_desc()
        array = Array(desc, [])
        self._keep(array)
        size = self._number(">i")
        kind = desc.name[1:2]
        if kind == "B":
            array.items = self._bytes(size)
            return array
        if not 0 <= size <= MAX_OBJECT_BYTES:
            raise StreamFault("the size of an array is out of bounds")
        array.items = [self._value(kind) for _ in range(size)]
        return array

    def _value(self, kind: str) -> Value:
        layout = PRIMITIVES.get(kind)
        if layout is None:
            return self._content()
        (value,) = layout.unpack(self._bytes(layout.size))
        if isinstance(value, int | float):
            return value
        raise StreamFault("a primitive of no known kind")

    def _annotation(self) -> list[Node | bytes]:
        added: list[Node | bytes] = []
        while True:
            code = self._number(">B")
            if code == TC_ENDBLOCKDATA:
                return added
            if code == TC_BLOCKDATA:
                added.append(self._bytes(self._number(">B")))
            elif code == TC_BLOCKDATALONG:
                added.append(self._bytes(self._number(">i")))
            else:
                self._at -= 1
                added.append(self._content())

    def _needed_desc(self) -> ClassDesc:
        desc = self._desc()
        if desc is None:
            raise StreamFault("an object without a class")
        return desc

    def _desc(self) -> ClassDesc | None:
        code = self._number(">B")
        if code == TC_NULL:
            return None
        if code == TC_REFERENCE:
            known = self._referred()
            if isinstance(known, ClassDesc):
                return known
            raise StreamFault("a reference to an object where a class belongs")
        if code != TC_CLASSDESC:
            raise StreamFault(f"type code 0x{code:02x} where a class belongs")
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise StreamFault("classes are nested too deeply")
        name, suid = self._utf(), self._number(">q")
        slot = self._keep(None)
        flags = self._number(">B")
        if flags & ~SC_WRITE_METHOD not in (SC_SERIALIZABLE, SC_SERIALIZABLE | SC_ENUM):
            raise StreamFault(f"class {name} is serialized in a way this reader does not know")
        fields = tuple(self._field() for _ in range(self._number(">H")))
        if self._annotation():
            raise StreamFault(f"class {name} is annotated")
        desc = ClassDesc(name, suid, flags, fields, self._desc())
        if not self._known(desc):
            raise StreamFault(f"class {name} is unknown, or of another version")
        self._handles[slot] = desc
        self._depth -= 1
        return desc

    def _field(self) -> Field:
        kind, name = chr(self._number(">B")), self._utf()
        if kind in PRIMITIVES:
            return Field(kind, name)
        if kind not in "L[":
            raise StreamFault(f"field {name} has no known kind")
        signature = self._content()
        if not isinstance(signature, Text):
            raise StreamFault(f"field {name} has no type")
        return Field(kind, name, signature.value)

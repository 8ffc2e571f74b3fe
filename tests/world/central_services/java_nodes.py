"""Java objects as generic nodes: what a serialization stream holds, without knowing any class.

Identity matters: a node that appears twice is one Java object, and the stream writes it once and then refers to it.
Grammar: https://docs.oracle.com/en/java/javase/17/docs/specs/serialization/protocol.html
"""

import struct
from dataclasses import dataclass, field

STREAM_HEADER = b"\xac\xed\x00\x05"
BASE_HANDLE = 0x7E0000

TC_NULL, TC_REFERENCE, TC_CLASSDESC, TC_OBJECT, TC_STRING, TC_ARRAY = 0x70, 0x71, 0x72, 0x73, 0x74, 0x75
TC_CLASS, TC_BLOCKDATA, TC_ENDBLOCKDATA, TC_RESET, TC_BLOCKDATALONG = 0x76, 0x77, 0x78, 0x79, 0x7A
TC_LONGSTRING, TC_ENUM = 0x7C, 0x7E

SC_WRITE_METHOD, SC_SERIALIZABLE, SC_ENUM = 0x01, 0x02, 0x10

PRIMITIVES = {
    "B": struct.Struct(">b"),
    "C": struct.Struct(">H"),
    "D": struct.Struct(">d"),
    "F": struct.Struct(">f"),
    "I": struct.Struct(">i"),
    "J": struct.Struct(">q"),
    "S": struct.Struct(">h"),
    "Z": struct.Struct(">?"),
}


class StreamFault(Exception):
    """Bytes that are no Java object stream, or one beyond this reader's bounds."""


@dataclass(eq=False, frozen=True)
class Text:
    """A java.lang.String with an identity of its own."""

    value: str


@dataclass(frozen=True)
class Field:
    """A field of a class: `kind` as on the wire (I, J, Z ... L, [), `signature` for references only."""

    kind: str
    name: str
    signature: str = ""


@dataclass(frozen=True)
class ClassDesc:
    """A class as the stream describes it; equal descriptors are the same class."""

    name: str
    suid: int
    flags: int
    fields: tuple[Field, ...] = ()
    parent: "ClassDesc | None" = None

    def lineage(self) -> "list[ClassDesc]":
        """This class and those above it, topmost first: the order in which their data is written."""
        above = self.parent.lineage() if self.parent else []
        return [*above, self]


@dataclass(eq=False)
class Instance:
    """An object: field values by name (those of all its classes), and what writeObject methods added, by class name."""

    desc: ClassDesc
    fields: "dict[str, Value]" = field(default_factory=dict)
    annotations: "dict[str, list[Node | bytes]]" = field(default_factory=dict)


@dataclass(frozen=True)
class Constant:
    """A constant of an enum: one object per virtual machine, hence compared by value."""

    desc: ClassDesc
    name: str


@dataclass(eq=False)
class Array:
    """An array; `items` is bytes for byte[]."""

    desc: ClassDesc
    items: "list[Value] | bytes"


@dataclass(frozen=True)
class ClassMention:
    """A java.lang.Class object."""

    desc: ClassDesc


Node = Text | Instance | Constant | Array | ClassMention | None
Value = Node | int | float | bool

_LITERALS: dict[str, Text] = {}
_LITERALS_MAX = 4096


def literal(value: str) -> Text:
    """The string constant of a program: the same object wherever it is used."""
    if value not in _LITERALS and len(_LITERALS) >= _LITERALS_MAX:
        return Text(value)
    return _LITERALS.setdefault(value, Text(value))


def encode_modified_utf8(value: str) -> bytes:
    """Java's own UTF-8: NUL as two bytes, characters beyond the BMP as two surrogates of three bytes each."""
    units = value.encode("utf-16-be", "surrogatepass")
    out = bytearray()
    for (unit,) in struct.iter_unpack(">H", units):
        if 0 < unit < 0x80:
            out.append(unit)
        elif unit < 0x800:
            out += bytes((0xC0 | unit >> 6, 0x80 | unit & 0x3F))
        else:
            out += bytes((0xE0 | unit >> 12, 0x80 | unit >> 6 & 0x3F, 0x80 | unit & 0x3F))
    return bytes(out)


def decode_modified_utf8(data: bytes) -> str:
    """The inverse of `encode_modified_utf8`; raises StreamFault when the bytes are not such text."""
    try:
        spread = data.replace(b"\xc0\x80", b"\0").decode("utf-8", "surrogatepass")
        return spread.encode("utf-16-be", "surrogatepass").decode("utf-16-be", "surrogatepass")
    except UnicodeDecodeError as error:
        raise StreamFault("a string is not in modified UTF-8") from error

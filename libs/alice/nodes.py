"""What travels in a Java object stream, as plain Python values and a few node types.

    None                      null
    Text (a str)              java.lang.String; its identity is the stream's handle
    Instance                  any object: one Part per class of its hierarchy, the most general first
    Array                     any array; `items` is bytes for byte[], else a list
    Enumerator                a constant of an enum
    ClassRef                  a java.lang.Class
    ClassDescriptor           a class descriptor written as an object of its own
    bytes                     block data, only inside annotations or between top-level objects
    Aborted                   the other side gave up in the middle of an object; holds its exception

Unknown classes are nothing special: every class parses into these nodes by what its descriptor says, and no Python
class is ever looked up by a name from the wire. Nodes compare by identity, since graphs can hold cycles.
Grammar: https://docs.oracle.com/en/java/javase/17/docs/specs/serialization/protocol.html
"""

import functools
import struct
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

MAGIC = b"\xac\xed\x00\x05"

NULL = 0x70
REFERENCE = 0x71
CLASS_DESCRIPTOR = 0x72
OBJECT = 0x73
STRING = 0x74
ARRAY = 0x75
CLASS = 0x76
BLOCK_DATA = 0x77
END_BLOCK_DATA = 0x78
RESET = 0x79
BLOCK_DATA_LONG = 0x7A
EXCEPTION = 0x7B
LONG_STRING = 0x7C
PROXY_DESCRIPTOR = 0x7D
ENUM = 0x7E

FIRST_HANDLE = 0x7E0000

WRITE_METHOD = 0x01
SERIALIZABLE = 0x02
EXTERNALIZABLE = 0x04
BLOCK_DATA_MODE = 0x08
ENUM_CLASS = 0x10

# struct codes of Java's primitive types; a char travels as one UTF-16 unit and is an int here.
PRIMITIVES = {"B": "b", "C": "H", "D": "d", "F": "f", "I": "i", "J": "q", "S": "h", "Z": "?"}
REFERENCES = "L["


def is_array_name(name: str) -> bool:
    """True for the class name of an array: `[` and the JVM type of its items."""
    return len(name) > 1 and name[0] == "[" and (name[1] in REFERENCES or name[1] in PRIMITIVES)


class Text(str):
    """A java.lang.String as it stood in a stream: equal by value, told apart by identity.

    The writer gives each Text a handle of its own; equal plain `str` share one, as Java's interned strings do.
    """

    __slots__ = ()


class Field(NamedTuple):
    """One field of a class: type code (a primitive's letter, `L` or `[`), name, and of references the JVM signature."""

    code: str
    name: str
    signature: str | None = None


@functools.lru_cache(maxsize=256)
def _form(codes: str) -> struct.Struct:
    """How primitive fields of these types are packed."""
    return struct.Struct(">" + "".join(PRIMITIVES[code] for code in codes))


@dataclass(eq=False, slots=True)
class ClassDescriptor:
    """A class as the wire describes it. `fields` come in stream order: primitives first, then references.

    `interfaces` is set for dynamic proxy classes only, which have neither name, serial version nor fields.
    `primitives` packs and unpacks the primitive fields in one go. A reader fills a descriptor in steps and sets
    `is_complete` at the end.
    """

    name: str
    serial_version: int
    flags: int
    fields: tuple[Field, ...]
    parent: "ClassDescriptor | None" = None
    annotation: "list[Content]" = field(default_factory=list)
    interfaces: tuple[str, ...] | None = None
    is_complete: bool = True
    primitives: struct.Struct = field(init=False)
    primitive_names: tuple[str, ...] = field(init=False)
    reference_names: tuple[str, ...] = field(init=False)
    _hierarchy: "tuple[ClassDescriptor, ...]" = field(init=False, default=())

    def __post_init__(self) -> None:
        if self.is_complete:
            self.set_fields(self.fields)

    def set_fields(self, fields: tuple[Field, ...]) -> None:
        """Set the fields and what is derived from them (a reader learns the name before the fields)."""
        self.fields = fields
        self.primitives = _form("".join([f.code for f in fields if f.signature is None]))
        self.primitive_names = tuple([f.name for f in fields if f.signature is None])
        self.reference_names = tuple([f.name for f in fields if f.signature is not None])

    def hierarchy(self) -> "tuple[ClassDescriptor, ...]":
        """This class and its ancestors, the most general first: the order of their data on the wire."""
        if not self._hierarchy:
            found = (*(self.parent.hierarchy() if self.parent is not None else ()), self)
            if not self.is_complete:
                return found
            self._hierarchy = found
        return self._hierarchy


@dataclass(eq=False, slots=True)
class Part:
    """What one class of an object's hierarchy holds: its fields, and what its writeObject added (None: it has none)."""

    descriptor: ClassDescriptor
    fields: "dict[str, Value]" = field(default_factory=dict)
    annotation: "list[Content] | None" = None


@dataclass(eq=False, slots=True)
class Instance:
    """An object: the descriptor of its class and one Part per class, the most general first."""

    descriptor: ClassDescriptor
    parts: list[Part] = field(default_factory=list)

    @property
    def class_name(self) -> str:
        """The Java name of the object's class."""
        return self.descriptor.name

    def part(self, class_name: str) -> Part | None:
        """What the named class of the hierarchy holds, None when it is not in it."""
        return next((part for part in self.parts if part.descriptor.name == class_name), None)

    def get(self, name: str) -> "Value":
        """The field's value, the most derived class's if several have one of that name, None when there is none."""
        return next((part.fields[name] for part in reversed(self.parts) if name in part.fields), None)


@dataclass(eq=False, slots=True)
class Array:
    """An array. Items of byte[] are `bytes`, those of other primitives a list of numbers, else a list of values."""

    descriptor: ClassDescriptor
    items: "bytes | list[Value]"


@dataclass(eq=False, slots=True)
class Enumerator:
    """A constant of an enum, known by its name only."""

    descriptor: ClassDescriptor
    constant: str


@dataclass(eq=False, slots=True)
class ClassRef:
    """A java.lang.Class; None for one that is not serializable."""

    descriptor: ClassDescriptor | None


@dataclass(eq=False, slots=True)
class Aborted:
    """The writer failed in the middle of a top-level object; `exception` is what stopped it."""

    exception: "Value"


Value: TypeAlias = bool | int | float | str | Instance | Array | Enumerator | ClassRef | ClassDescriptor | None
Content: TypeAlias = Value | bytes
TopLevel: TypeAlias = Content | Aborted

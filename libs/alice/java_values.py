"""Java's everyday values as nodes and back: boxed numbers, UUIDs, lists, sets, maps, certificates.

Sets and maps are written in the order in which Java's hash tables hold them, with the capacity they would have there,
so that what we send is what the real client would send.
"""

import struct
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from libs.alice import descriptors
from libs.alice.descriptors import TABLE
from libs.alice.nodes import Array, Content, Instance, Part, Value
from libs.runtime.errors import Malformed

DEFAULT_CAPACITY = 16
LOAD_FACTOR = 0.75
CACHED = range(-128, 128)
SIGN_BIT_64 = 1 << 63
MASK_64 = (1 << 64) - 1


class Long(int):
    """An int that travels as java.lang.Long; a plain int travels as java.lang.Integer."""


Plain: TypeAlias = str | int | Sequence[str]
"""What a map that we send may hold: String, Integer or Long, ArrayList of String."""


def instance(class_name: str, **fields: Value) -> Instance:
    """An object of a class from the table; fields not named are zero, False or null."""
    descriptor = TABLE[class_name]
    parts = []
    for level in descriptor.hierarchy():
        zeros = level.primitives.unpack(bytes(level.primitives.size))
        values: dict[str, Value] = dict(zip(level.primitive_names, zeros, strict=True))
        values.update(dict.fromkeys(level.reference_names))
        values.update((name, fields[name]) for name in fields.keys() & values.keys())
        parts.append(Part(level, values))
    return Instance(descriptor, parts)


def integer(value: int) -> Instance:
    """A java.lang.Integer; ValueError outside 32 bits."""
    if not -(1 << 31) <= value < 1 << 31:
        raise ValueError(f"{value} does not fit a Java int")
    return instance(descriptors.INTEGER, value=value)


def long(value: int) -> Instance:
    """A java.lang.Long; ValueError outside 64 bits."""
    if not -SIGN_BIT_64 <= value < SIGN_BIT_64:
        raise ValueError(f"{value} does not fit a Java long")
    return instance(descriptors.LONG, value=value)


def uuid_node(value: uuid.UUID) -> Instance:
    """A java.util.UUID: two signed 64-bit halves."""
    most, least = ((half ^ SIGN_BIT_64) - SIGN_BIT_64 for half in (value.int >> 64, value.int & MASK_64))
    return instance(descriptors.UUID, mostSigBits=most, leastSigBits=least)


def certificate(der: bytes) -> Instance:
    """Any X.509 certificate; the class itself never travels, this stands in for it."""
    return instance(descriptors.CERTIFICATE, data=Array(TABLE[descriptors.BYTES], der), type="X.509")


def array_list(items: Sequence[str]) -> Instance:
    """A java.util.ArrayList of strings."""
    made = instance(descriptors.ARRAY_LIST, size=len(items))
    made.parts[-1].annotation = [struct.pack(">i", len(items)), *items]
    return made


def hash_code(value: str) -> int:
    """What java.lang.String.hashCode gives, unsigned."""
    wide = value.encode("utf-16-be", "surrogatepass")
    code = 0
    for i in range(0, len(wide), 2):
        code = (31 * code + (wide[i] << 8 | wide[i + 1])) & 0xFFFFFFFF
    return code


def capacity(size: int) -> int:
    """How many buckets a hash table with so many entries, filled one by one, has."""
    found = DEFAULT_CAPACITY
    while size > found * LOAD_FACTOR:
        found *= 2
    return found


def hash_order(keys: Iterable[str], buckets: int) -> list[str]:
    """The keys as a Java hash table of that capacity iterates; keys of one bucket keep their order."""

    def bucket(key: str) -> int:
        code = hash_code(key)
        return (code ^ code >> 16) & (buckets - 1)

    return sorted(keys, key=bucket)


def linked_hash_set(items: Sequence[str]) -> Instance:
    """A java.util.LinkedHashSet of strings, which keeps their order."""
    made = instance(descriptors.LINKED_HASH_SET)
    made.parts[0].annotation = [struct.pack(">ifi", capacity(len(items)), LOAD_FACTOR, len(items)), *items]
    return made


def hash_map(entries: Mapping[str, Value]) -> Instance:
    """A java.util.HashMap with string keys."""
    buckets = capacity(len(entries))
    made = instance(descriptors.HASH_MAP, loadFactor=LOAD_FACTOR, threshold=int(buckets * LOAD_FACTOR))
    annotation: list[Content] = [struct.pack(">ii", buckets, len(entries))]
    for key in hash_order(entries, buckets):
        annotation += (key, entries[key])
    made.parts[-1].annotation = annotation
    return made


def text_of(value: Value) -> str | None:
    """A string or null; Malformed for anything else."""
    if value is None or isinstance(value, str):
        return None if value is None else str(value)
    raise Malformed(f"a string was expected, not {_kind(value)}")


def int_of(value: Value) -> int:
    """The number in an Integer or Long; Malformed for anything else."""
    if isinstance(value, Instance) and value.class_name in (descriptors.INTEGER, descriptors.LONG):
        number = value.get("value")
        if isinstance(number, int):
            return int(number)
    raise Malformed(f"a boxed number was expected, not {_kind(value)}")


def list_of(value: Value) -> list[Value] | None:
    """The items of an ArrayList, or null; Malformed for anything else."""
    if value is None:
        return None
    items = _contents(value, descriptors.ARRAY_LIST)
    if items is None:
        raise Malformed(f"a list was expected, not {_kind(value)}")
    return items


def map_of(value: Value) -> dict[str, Value] | None:
    """A HashMap (or LinkedHashMap) or TreeMap with string keys, or null; Malformed for anything else."""
    if value is None:
        return None
    items = _contents(value, descriptors.HASH_MAP)
    if items is None:
        items = _contents(value, descriptors.TREE_MAP)
    if items is None or len(items) % 2:
        raise Malformed(f"a map was expected, not {_kind(value)}")
    return {text_of(key) or "": item for key, item in zip(items[::2], items[1::2], strict=True)}


def set_of(value: Value) -> list[Value] | None:
    """The items of a HashSet (or LinkedHashSet), None for null and for any other set."""
    return _contents(value, descriptors.HASH_SET)


def texts_of(value: Value) -> tuple[str, ...] | None:
    """The strings of a HashSet (or LinkedHashSet) or TreeSet in their order, or null; Malformed for anything else."""
    if value is None:
        return None
    items = _contents(value, descriptors.HASH_SET)
    if items is None:
        # The first of a TreeSet is its comparator, of which there is none for strings in their natural order.
        items = (_contents(value, descriptors.TREE_SET) or [])[1:]
        if not isinstance(value, Instance) or value.class_name != descriptors.TREE_SET:
            raise Malformed(f"a set was expected, not {_kind(value)}")
    found = tuple(str(item) for item in items if isinstance(item, str))
    if len(found) != len(items):
        raise Malformed(f"a set of strings was expected, not one with {len(items) - len(found)} other things")
    return found


def bytes_of(value: Value) -> bytes:
    """The content of a byte[]; Malformed for anything else."""
    if isinstance(value, Array) and isinstance(value.items, bytes):
        return value.items
    raise Malformed(f"bytes were expected, not {_kind(value)}")


def _contents(value: Value, class_name: str) -> list[Value] | None:
    """What the collection's writeObject wrote after its sizes; None when it is no such collection."""
    part = value.part(class_name) if isinstance(value, Instance) else None
    if part is None or part.annotation is None:
        return None
    return [item for item in part.annotation if not isinstance(item, bytes)]


def _kind(value: Value) -> str:
    return value.class_name if isinstance(value, Instance) else type(value).__name__

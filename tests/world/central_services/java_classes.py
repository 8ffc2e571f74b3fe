"""The classes central services know, as recorded from real servers, and the objects made of them.

java_classes.json: name -> {suid, flags, super, fields: [[kind, name, signature]]}.
"""

import json
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tests.world.central_services.java_nodes import (
    PRIMITIVES,
    Array,
    ClassDesc,
    Constant,
    Field,
    Instance,
    Node,
    StreamFault,
    Text,
    Value,
    literal,
)

_TABLE = Path(__file__).with_name("java_classes.json")
_BOXED_MIN, _BOXED_MAX = -128, 127
_MAP_CAPACITY = 16


def _described(table: Mapping[str, Mapping[str, Any]], name: str | None) -> ClassDesc | None:
    if name is None:
        return None
    seen = table[name]
    fields = tuple(Field(kind, field, signature or "") for kind, field, signature in seen["fields"])
    return ClassDesc(name, seen["suid"], seen["flags"], fields, _described(table, seen["super"]))


def _load() -> dict[str, ClassDesc]:
    table = json.loads(_TABLE.read_text())
    return {name: desc for name in table if (desc := _described(table, name)) is not None}


CLASSES = _load()
REQUEST = CLASSES["alien.api.Request"]
EMPTY_LIST = Instance(CLASSES["java.util.Collections$EmptyList"])


def is_known(desc: ClassDesc) -> bool:
    """Whether the newest servers have this class in this version; a stream with any other ends the connection."""
    known = CLASSES.get(desc.name)
    return known is not None and known.suid == desc.suid


def _integer(value: int) -> Instance:
    return Instance(CLASSES["java.lang.Integer"], {"value": value})


_BOXED = {value: _integer(value) for value in range(_BOXED_MIN, _BOXED_MAX + 1)}


def integer(value: int) -> Instance:
    """Integer.valueOf: small numbers are one object per virtual machine."""
    return _BOXED.get(value) or _integer(value)


def array_list(items: Iterable[Node]) -> Instance:
    """java.util.ArrayList."""
    held = list(items)
    size = struct.pack(">i", len(held))
    return Instance(CLASSES["java.util.ArrayList"], {"size": len(held)}, {"java.util.ArrayList": [size, *held]})


def linked_set(items: Iterable[Node], *, capacity: int = _MAP_CAPACITY) -> Instance:
    """java.util.LinkedHashSet, insertion order."""
    held = list(items)
    shape = struct.pack(">ifi", _grown(capacity, len(held)), 0.75, len(held))
    return Instance(CLASSES["java.util.LinkedHashSet"], {}, {"java.util.HashSet": [shape, *held]})


def tree_set(items: Iterable[str]) -> Instance:
    """java.util.TreeSet of strings in their natural order."""
    held = sorted(set(items), key=_utf16)
    shape = struct.pack(">i", len(held))
    # The comparator that is written first is null: natural order.
    return Instance(CLASSES["java.util.TreeSet"], {}, {"java.util.TreeSet": [None, shape, *map(Text, held)]})


def tree_map(pairs: Mapping[str, Node]) -> Instance:
    """java.util.TreeMap with strings as keys, in their natural order."""
    flat: list[Node | bytes] = [struct.pack(">i", len(pairs))]
    for key in sorted(pairs, key=_utf16):
        flat += (Text(key), pairs[key])
    return Instance(CLASSES["java.util.TreeMap"], {"comparator": None}, {"java.util.TreeMap": flat})


def _utf16(value: str) -> bytes:
    return value.encode("utf-16-be", "surrogatepass")


def members(node: Value) -> list[Node]:
    """The elements of a list or a set as this world meets them; nothing for any other node."""
    if not isinstance(node, Instance):
        return []
    for name in ("java.util.ArrayList", "java.util.HashSet", "java.util.TreeSet"):
        if name in node.annotations:
            skipped = 1 if name == "java.util.TreeSet" else 0
            return [item for item in node.annotations[name][skipped:] if not isinstance(item, bytes)]
    return []


def entries(node: Node) -> list[tuple[Node, Node]]:
    """The pairs of a HashMap, LinkedHashMap or TreeMap in stream order; nothing for any other node."""
    if not isinstance(node, Instance):
        return []
    written = node.annotations.get("java.util.HashMap") or node.annotations.get("java.util.TreeMap", [])
    held = [item for item in written if not isinstance(item, bytes)]
    return list(zip(held[::2], held[1::2], strict=False))


def hash_map(pairs: Iterable[tuple[Node, Node]], *, capacity: int = _MAP_CAPACITY) -> Instance:
    """java.util.HashMap with String keys: written bucket by bucket, as the real one iterates."""
    made = Instance(CLASSES["java.util.HashMap"])
    fill_map(made, pairs, capacity=capacity)
    return made


def linked_map(pairs: Iterable[tuple[Node, Node]]) -> Instance:
    """java.util.LinkedHashMap, insertion order."""
    made = Instance(CLASSES["java.util.LinkedHashMap"], {"accessOrder": False})
    fill_map(made, pairs, capacity=_MAP_CAPACITY)
    return made


def fill_map(target: Instance, pairs: Iterable[tuple[Node, Node]], *, capacity: int) -> None:
    """Gives `target` exactly these entries, in a table that began with `capacity` buckets."""
    held = list(pairs)
    buckets = _grown(capacity, len(held))
    if target.desc.name == "java.util.HashMap":
        held.sort(key=lambda pair: _spread_hash(pair[0]) & (buckets - 1))
    flat: list[Node | bytes] = [struct.pack(">ii", buckets, len(held))]
    for key, value in held:
        flat += (key, value)
    target.fields |= {"loadFactor": 0.75, "threshold": buckets * 3 // 4}
    target.annotations["java.util.HashMap"] = flat


def read_capacity(size: int) -> int:
    """Buckets of a HashMap of `size` entries after HashMap.readObject, before anything is added."""
    return _power_of_two(max(_MAP_CAPACITY, int(size / 0.75 + 1)))


def _power_of_two(least: int) -> int:
    return 1 << max(0, least - 1).bit_length()


def _grown(capacity: int, size: int) -> int:
    while size > capacity * 0.75:
        capacity *= 2
    return capacity


def _spread_hash(key: Node) -> int:
    code = 0
    if isinstance(key, Text):
        for (unit,) in struct.iter_unpack(">H", _utf16(key.value)):
            code = (31 * code + unit) & 0xFFFFFFFF
    return code ^ (code >> 16)


def settle(node: Instance) -> None:
    """Makes an object of a client what it becomes inside the server once read: own class, own table sizes."""
    _adopt_class(node)
    if node.desc.name == "java.util.HashMap":
        fill_map(node, pairs := entries(node), capacity=read_capacity(len(pairs)))
    elif node.desc.name == "java.util.LinkedHashSet":
        held = members(node)
        node.annotations = linked_set(held, capacity=_power_of_two(int(len(held) / 0.75))).annotations
    elif node.desc.name == "java.security.cert.Certificate$CertificateRep":
        # The server holds a certificate here; each time it is written anew, with the type's constant.
        node.fields["type"] = literal("X.509")


def _adopt_class(node: Instance) -> None:
    """A client's class of the same version may have other fields: drop what is not ours, default what is missing."""
    own = CLASSES[node.desc.name]
    if own == node.desc:
        return
    ours = [field for desc in own.lineage() for field in desc.fields]
    kinds = {field.name: field.kind for field in ours}
    if any(kinds.get(f.name, f.kind) != f.kind for desc in node.desc.lineage() for f in desc.fields):
        raise StreamFault(f"a field of {own.name} has another type than here")
    sent, node.desc = node.fields, own
    node.fields = {f.name: sent.get(f.name, 0 if f.kind in PRIMITIVES else None) for f in ours}


def certificate(der: bytes) -> Instance:
    """An X.509 certificate as it travels."""
    made = Instance(CLASSES["java.security.cert.Certificate$CertificateRep"])
    made.fields["data"] = Array(CLASSES["[B"], der)
    made.fields["type"] = literal("X.509")
    return made


def private_key(pkcs8_der: bytes) -> Instance:
    """An RSA private key as it travels."""
    made = Instance(CLASSES["java.security.KeyRep"])
    made.fields["algorithm"] = literal("RSA")
    made.fields["encoded"] = Array(CLASSES["[B"], pkcs8_der)
    made.fields["format"] = literal("PKCS#8")
    made.fields["type"] = Constant(CLASSES["java.security.KeyRep$Type"], "PRIVATE")
    return made

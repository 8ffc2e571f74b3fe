"""Objects of a stream as JSON for people: everything in them, and no secret. Pure.

object         {"class": ..., its fields by name}; a name of several classes of the hierarchy: the most derived one's
what writeObject added   "+": [...], block data as {"bytes": hex}
byte[]         {"bytes": hex}, cut after some; a private key's is {"secret_bytes": its size}
other array    {"class": ..., "items": [...]}
enum constant  {"class": ..., "constant": ...}
shown before   {"again": n}, where n counts the objects of this line from 0 in the order in which they begin
"""

import math
from typing import Any

from libs.alice import descriptors
from libs.alice.nodes import Aborted, Array, ClassDescriptor, ClassRef, Content, Enumerator, Instance, TopLevel

SHOWN_BYTES = 32
# Whatever class a server puts there.
SECRET_FIELD = "privateKey"


def class_of(value: TopLevel) -> str | None:
    """What a top-level object is: its Java class, or what stands in the stream in an object's place; None for null."""
    if isinstance(value, Instance | Array | Enumerator):
        return value.descriptor.name
    if isinstance(value, str):
        return "java.lang.String"
    if isinstance(value, ClassRef):
        return "java.lang.Class"
    if isinstance(value, ClassDescriptor):
        return "java.io.ObjectStreamClass"
    if isinstance(value, Aborted):
        return "TC_EXCEPTION"
    return "TC_BLOCKDATA" if isinstance(value, bytes) else None


def fields_of(value: TopLevel) -> Any:
    """What is in a top-level object: of an object its fields by name, of anything else its value."""
    shown = _Shown()
    if isinstance(value, Aborted):
        return {"exception": shown.of(value.exception)}
    found = shown.of(value)
    if isinstance(value, Instance):
        del found["class"]
    return found


class _Shown:
    """One line's objects; `of` gives each in full once."""

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}

    def of(self, value: Content) -> Any:
        if isinstance(value, bytes):
            return _hex(value)
        if isinstance(value, float) and not math.isfinite(value):
            return str(value)
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, str):
            return str(value)
        if isinstance(value, ClassDescriptor):
            return {"descriptor": value.name}
        if isinstance(value, ClassRef):
            return {"descriptor": value.descriptor.name if value.descriptor is not None else None}
        if (number := self._numbers.get(id(value))) is not None:
            return {"again": number}
        self._numbers[id(value)] = len(self._numbers)
        return self._first(value)

    def _first(self, value: Instance | Array | Enumerator) -> Any:
        if isinstance(value, Instance) and value.class_name == descriptors.KEY:
            return _unseen(value)
        found: dict[str, Any] = {"class": value.descriptor.name}
        if isinstance(value, Enumerator):
            found["constant"] = str(value.constant)
        elif isinstance(value, Array):
            if isinstance(value.items, bytes):
                return _hex(value.items)
            found["items"] = [self.of(item) for item in value.items]
        else:
            for part in value.parts:
                for name, field in part.fields.items():
                    found[name] = _unseen(field) if name == SECRET_FIELD and field is not None else self.of(field)
                if part.annotation:
                    found["+"] = [*found.get("+", []), *(self.of(item) for item in part.annotation)]
        return found


def _unseen(secret: object) -> dict[str, Any]:
    return {"class": secret.class_name if isinstance(secret, Instance) else None, "secret": "not shown"}


def _hex(data: bytes) -> dict[str, Any]:
    if len(data) <= SHOWN_BYTES:
        return {"bytes": data.hex()}
    return {"bytes": data[:SHOWN_BYTES].hex() + "...", "size_bytes": len(data)}

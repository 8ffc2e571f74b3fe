"""How much of a stream from outside we are willing to hold. Real replies are a few kilobytes and six levels deep."""

from dataclasses import dataclass

from libs.runtime.errors import Malformed


@dataclass(frozen=True)
class Limits:
    """Bounds of one reader; each is far above what the central services send and far below what would hurt.

    `object_bytes` bounds one top-level object. `stream_bytes`, `handles` and `parts` bound what gathers between two
    resets, since handles keep objects alive that long (`parts`: one per object and class of its hierarchy).
    `depth` bounds nested objects; a level costs a few interpreter frames, so it stays well under the recursion limit.
    `ancestors` bounds the classes above a class, `fields` those of one class.
    """

    object_bytes: int = 1 << 20
    stream_bytes: int = 16 << 20
    text_bytes: int = 1 << 18
    array_items: int = 1 << 16
    handles: int = 1 << 16
    parts: int = 1 << 17
    depth: int = 64
    ancestors: int = 16
    fields: int = 256


class MalformedStream(Malformed):
    """Bytes that are no Java object stream, or one beyond our limits: at which offset, inside which class."""

    def __init__(self, problem: str, offset: int, class_name: str | None = None) -> None:
        super().__init__(f"{problem} at byte {offset}" + (f", in {class_name}" if class_name else ""))
        self.problem = problem
        self.offset = offset
        self.class_name = class_name

"""Arbitrary graphs of Java objects for round trips, and a comparison that sees through handles and cycles."""

from collections.abc import Sequence

from hypothesis import strategies as st

from libs.alice import nodes
from libs.alice.nodes import (
    Array,
    ClassDescriptor,
    ClassRef,
    Content,
    Enumerator,
    Field,
    Instance,
    Part,
    Text,
    Value,
)

PRIMITIVE_VALUES: dict[str, st.SearchStrategy[int | float]] = {
    "B": st.integers(-(1 << 7), (1 << 7) - 1),
    "C": st.integers(0, (1 << 16) - 1),
    "D": st.floats(allow_nan=False),
    "F": st.floats(allow_nan=False, width=32),
    "I": st.integers(-(1 << 31), (1 << 31) - 1),
    "J": st.integers(-(1 << 63), (1 << 63) - 1),
    "S": st.integers(-(1 << 15), (1 << 15) - 1),
    "Z": st.booleans(),
}
JAVA_TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=12)
BLOCKS = st.one_of(st.binary(max_size=8), st.binary(min_size=256, max_size=300))


@st.composite
def descriptors(draw: st.DrawFn) -> ClassDescriptor:
    parent = draw(st.none() | descriptors()) if draw(st.integers(0, 2)) == 0 else None
    primitives = [Field(draw(st.sampled_from("BCDFIJSZ")), f"p{n}") for n in range(draw(st.integers(0, 3)))]
    references = [Field("L", f"r{n}", draw(JAVA_TEXT)) for n in range(draw(st.integers(0, 3)))]
    flags = draw(
        st.sampled_from(
            [nodes.SERIALIZABLE, nodes.SERIALIZABLE | nodes.WRITE_METHOD, nodes.EXTERNALIZABLE | nodes.BLOCK_DATA_MODE]
        )
    )
    made = ClassDescriptor(draw(JAVA_TEXT), draw(PRIMITIVE_VALUES["J"]), flags, (*primitives, *references), parent)  # type: ignore[arg-type]
    if draw(st.integers(0, 5)) == 0:
        made.annotation = draw(st.lists(BLOCKS | JAVA_TEXT, max_size=2))
    if draw(st.integers(0, 5)) == 0:
        made.set_fields(())
        made.name, made.serial_version, made.flags = "$Proxy", 0, nodes.SERIALIZABLE
        made.interfaces = tuple(draw(st.lists(JAVA_TEXT, max_size=2)))
    return made


@st.composite
def graphs(draw: st.DrawFn) -> list[Content]:
    """A few top-level objects that share and contain each other."""
    classes = draw(st.lists(descriptors(), min_size=1, max_size=3))
    shared: list[Value] = [None, *(Text(draw(JAVA_TEXT)) for _ in range(2)), *draw(st.lists(JAVA_TEXT, max_size=2))]
    made: list[Instance] = []

    def value(depth: int) -> Value:
        kind = draw(st.integers(0, 8))
        if depth > 3 or kind < 3:
            return draw(st.sampled_from([*shared, *made]))
        if kind == 3:
            return Enumerator(draw(st.sampled_from(classes)), draw(JAVA_TEXT))
        if kind == 4:
            return ClassRef(draw(st.none() | st.sampled_from(classes)))
        if kind == 5:
            return draw(st.sampled_from(classes))
        if kind == 6:
            code = draw(st.sampled_from("BCDFIJSZ"))
            items: bytes | Sequence[int | float] = (
                draw(st.binary(max_size=6)) if code == "B" else draw(st.lists(PRIMITIVE_VALUES[code], max_size=4))
            )
            return Array(
                ClassDescriptor(f"[{code}", 1, nodes.SERIALIZABLE, ()), items if isinstance(items, bytes) else [*items]
            )
        if kind == 7:
            array = Array(ClassDescriptor("[Lx;", 1, nodes.SERIALIZABLE, ()), [])
            shared.append(array)
            assert isinstance(array.items, list)
            array.items += [value(depth + 1) for _ in range(draw(st.integers(0, 3)))]
            return array
        return instance(depth)

    def instance(depth: int) -> Instance:
        new = Instance(draw(st.sampled_from(classes)))
        made.append(new)
        for level in new.descriptor.hierarchy():
            part = Part(level)
            if level.flags & nodes.SERIALIZABLE:
                for field in level.fields:
                    primitive = PRIMITIVE_VALUES.get(field.code)
                    part.fields[field.name] = draw(primitive) if primitive is not None else value(depth + 1)
            if level.flags & (nodes.WRITE_METHOD | nodes.EXTERNALIZABLE):
                part.annotation = [
                    draw(BLOCKS) if draw(st.booleans()) else value(depth + 1) for _ in range(draw(st.integers(0, 2)))
                ]
            new.parts.append(part)
        return new

    return [draw(BLOCKS) if draw(st.integers(0, 5)) == 0 else value(0) for _ in range(draw(st.integers(1, 4)))]


class Shapes:
    """Gives each graph a nested tuple in which what was seen before stands as its number."""

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}
        self._kept: list[object] = []

    def of(self, item: Content) -> object:
        if item is None or isinstance(item, (bytes, str, int, float)):
            return (type(item).__name__.replace("Text", "str"), item)
        if id(item) in self._seen:
            return ("again", self._seen[id(item)])
        self._seen[id(item)] = len(self._seen)
        self._kept.append(item)
        if isinstance(item, ClassDescriptor):
            fields = tuple((f.code, f.name, f.signature) for f in item.fields)
            notes = tuple(self.of(content) for content in item.annotation)
            head = (item.name, item.serial_version, item.flags, fields, item.interfaces, notes)
            return (*head, self.of(item.parent))
        if isinstance(item, Instance):
            return ("instance", self.of(item.descriptor), tuple(self._part(part) for part in item.parts))
        if isinstance(item, Array):
            items = item.items if isinstance(item.items, bytes) else tuple(self.of(value) for value in item.items)
            return ("array", self.of(item.descriptor), items)
        if isinstance(item, Enumerator):
            return ("enum", self.of(item.descriptor), str(item.constant))
        return ("class", self.of(item.descriptor))

    def _part(self, part: Part) -> object:
        notes = None if part.annotation is None else tuple(self.of(content) for content in part.annotation)
        return (tuple((name, self.of(value)) for name, value in part.fields.items()), notes)

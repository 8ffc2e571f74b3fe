import struct
import sys

import pytest

from libs.alice import nodes
from libs.alice.limits import Limits, MalformedStream
from libs.alice.nodes import Array, ClassDescriptor, ClassRef, Content, Field, Instance, Part
from libs.alice.reader import Reader
from libs.alice.writer import HEADER, Writer
from tests.unit.alice import recordings

PLAIN = nodes.SERIALIZABLE
OBJECTS = ClassDescriptor("[Ljava.lang.Object;", 1, PLAIN, ())


def written(*items: Content) -> bytes:
    writer = Writer(depth=500)
    return HEADER + b"".join(writer.write(item) for item in items)


def descriptor(name: str = "a.B", flags: int = PLAIN, fields: bytes = b"\0\0", rest: bytes = b"\x78\x70") -> bytes:
    """The bytes of a class descriptor."""
    return b"\x72" + struct.pack(">H", len(name)) + name.encode() + bytes(8) + bytes([flags]) + fields + rest


def nested(levels: int) -> Content:
    inner: Array | None = None
    for _ in range(levels):
        inner = Array(OBJECTS, [inner])
    return inner


def chain(levels: int) -> ClassDescriptor:
    found = ClassDescriptor("c0", 1, PLAIN, ())
    for n in range(1, levels):
        found = ClassDescriptor(f"c{n}", 1, PLAIN, (), found)
    return found


def bare(of: ClassDescriptor) -> Instance:
    return Instance(of, [Part(level) for level in of.hierarchy()])


TOO_MUCH = {
    "text": (Limits(text_bytes=10), written("12345678901"), "a string longer than allowed"),
    "negative text": (Limits(), HEADER + b"\x7c" + b"\xff" * 8, "a string longer than allowed"),
    "object": (Limits(object_bytes=100), written("x" * 101), "more bytes in one object than allowed"),
    "announced bytes": (Limits(), HEADER + b"\x7a\x7f\xff\xff\xff", "more bytes in one object than allowed"),
    "stream": (Limits(stream_bytes=100), written("x" * 50, "y" * 50), "more bytes without a reset than allowed"),
    "items": (Limits(array_items=3), written(Array(OBJECTS, [None] * 4)), "an array longer than allowed"),
    "numbers": (
        Limits(array_items=3),
        written(Array(ClassDescriptor("[I", 1, PLAIN, ()), [1, 2, 3, 4])),
        "an array longer than allowed",
    ),
    "negative array": (
        Limits(),
        HEADER + b"\x75" + descriptor("[B") + b"\xff\xff\xff\xff",
        "an array longer than allowed",
    ),
    "handles": (Limits(handles=4), written("a", "b", "c", "d", "e"), "more handles than allowed"),
    "parts": (Limits(parts=5), written(*(bare(chain(2)) for _ in range(3))), "more parts of objects than allowed"),
    "depth": (Limits(depth=20), written(nested(21)), "objects nested deeper than allowed"),
    "ancestors": (Limits(ancestors=5), written(chain(6)), "more ancestors than allowed"),
    "fields": (
        Limits(fields=2),
        written(ClassDescriptor("a", 1, PLAIN, tuple(Field("I", f"f{n}") for n in range(3)))),
        "more fields than allowed",
    ),
    "interfaces": (Limits(), HEADER + b"\x7d\x7f\xff\xff\xff", "more interfaces than allowed"),
}


@pytest.mark.parametrize("case", TOO_MUCH)
def test_each_bound_ends_in_malformed(case: str) -> None:
    """Beyond any bound the reader stops with an error that says what was too much."""
    limits, data, problem = TOO_MUCH[case]
    reader = Reader(limits)
    with pytest.raises(MalformedStream, match=problem):
        while True:
            reader.feed(data)
            data = b""
            assert reader.feed(b"") == []


def test_the_bounds_themselves_are_allowed() -> None:
    """What is exactly as large as a bound still parses."""
    limits = Limits(text_bytes=19, array_items=3, depth=20, ancestors=5, fields=2)
    two = ClassDescriptor("a", 1, PLAIN, tuple(Field("I", f"f{n}") for n in range(2)))
    data = written("1234567890123456789", Array(OBJECTS, [None] * 3), nested(20), chain(5), two)
    assert len(Reader(limits).feed(data)) == 5


def test_a_reset_frees_handles_and_bytes() -> None:
    """Bounds that gather start again at a reset, so an endless connection with resets stays within them."""
    reader, writer = Reader(Limits(handles=3, stream_bytes=40, parts=3)), Writer()
    assert reader.feed(HEADER) == []
    for _ in range(50):
        assert reader.feed(writer.reset() + writer.write(bare(chain(1)))) != []
    assert reader.resets == 50


def test_a_closed_reader_holds_nothing_back() -> None:
    """What it had read is let go at once, not when some garbage collection finds it."""
    reader = Reader()
    (found,) = reader.feed(written(bare(chain(1))))
    assert sys.getrefcount(found) > 2
    reader.close()
    # What is left is this test's own name for it, and the argument of the call.
    assert sys.getrefcount(found) == 2


WRONG = {
    "header": (b"GET / HTTP/1.1", "wrong header", 0),
    "type code": (HEADER + b"\x00", "type code 0x00 is not allowed here", 5),
    "nested reset": (HEADER + b"\x73\x79", "type code 0x79 is not allowed here", 6),
    "end mark at the top": (HEADER + b"\x78", "type code 0x78 is not allowed here", 5),
    "block data as a class": (HEADER + b"\x73\x77\x01\x00", "type code 0x77", 6),
    "handle never given": (HEADER + bytes.fromhex("71007e0000"), "a handle that was never given", 9),
    "handle below the first": (HEADER + bytes.fromhex("7100000000"), "a handle that was never given", 9),
    "object of a string": (HEADER + b"\x73\x74\x00\x00", "where a class descriptor must stand", 8),
    "object without class": (HEADER + b"\x73\x70", "an object without a class", 6),
    "array without class": (HEADER + b"\x75\x70", "an array without an array's class", 6),
    "array of no array class": (HEADER + b"\x75" + descriptor("x"), "an array without an array's class", 22),
    "array of unknown items": (HEADER + b"\x75" + descriptor("[Q"), "an array without an array's class", 23),
    "enum without class": (HEADER + b"\x7e\x70", "an enum constant without a class", 6),
    "enum named by null": (HEADER + b"\x7e" + descriptor() + b"\x70", "where a string must stand", 25),
    "field of unknown type": (HEADER + descriptor(fields=b"\0\1Q\0\1q"), "a field of unknown type", 25),
    "primitive after reference": (
        HEADER + descriptor(fields=b"\0\2L\0\1q\x74\0\1xI\0\1i"),
        "a field of unknown type or out of order",
        33,
    ),
    "own parent": (HEADER + descriptor(rest=b"\x78" + bytes.fromhex("71007e0000")), "a class descriptor must", 27),
    "old externalizable": (HEADER + b"\x73" + descriptor(flags=nodes.EXTERNALIZABLE), "old protocol", 24),
    "four-byte utf-8": (HEADER + b"\x74\0\4" + "😀".encode(), "not modified UTF-8", 11),
    "broken utf-8": (HEADER + b"\x74\0\2\xc3\x28", "not modified UTF-8", 9),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_no_writer_sends_is_malformed_at_its_offset(case: str) -> None:
    """Each breach of the grammar is named, with the byte after which it shows."""
    data, problem, offset = WRONG[case]
    with pytest.raises(MalformedStream, match=problem) as caught:
        Reader().feed(data)
    assert caught.value.offset == offset


def test_a_fault_names_the_class_it_is_in() -> None:
    """The error says inside which class the bytes went wrong."""
    data = recordings.answered("waiting-ok").replace(b"\x74\x00\x02\x34\x39", b"\x7f\x00\x02\x34\x39")
    with pytest.raises(MalformedStream, match=r"0x7f is not allowed here at byte \d+, in java.util.HashMap"):
        Reader().feed(data)


def test_objects_before_a_fault_are_given_first() -> None:
    """A reply that came whole is not lost because garbage follows it."""
    reader = Reader()
    assert reader.feed(HEADER + b"\x70\x00") == [None]
    with pytest.raises(MalformedStream):
        reader.feed(b"")


def test_a_class_that_only_marks_itself_has_no_data() -> None:
    """A class that is neither serializable nor externalizable adds nothing, as in java.lang.Class of such classes."""
    (found,) = Reader().feed(HEADER + b"\x73" + descriptor(flags=0))
    assert isinstance(found, Instance)
    assert found.parts[0].fields == {}
    assert found.parts[0].annotation is None


def test_the_writer_refuses_what_is_nested_too_deep_and_recovers() -> None:
    """A refused object sends nothing; the next one follows a reset, so both sides agree on handles."""
    writer = Writer(depth=5)
    out = HEADER + writer.write("one")
    with pytest.raises(MalformedStream, match="nested deeper"):
        writer.write(nested(6))
    reader = Reader()
    assert reader.feed(out + writer.write("one")) == ["one", "one"]
    assert reader.resets == 1


def test_the_writer_takes_only_what_travels_as_an_object() -> None:
    """A bare number has no class, so it must be boxed."""
    with pytest.raises(TypeError, match="int does not travel"):
        Writer().write(7)


def test_a_class_without_descriptor_travels_as_null() -> None:
    """java.lang.Class with a null descriptor is kept."""
    (found,) = Reader().feed(written(ClassRef(None)))
    assert isinstance(found, ClassRef)
    assert found.descriptor is None

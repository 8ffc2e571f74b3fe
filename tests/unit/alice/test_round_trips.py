from hypothesis import given, settings
from hypothesis import strategies as st

from libs.alice import text
from libs.alice.nodes import Aborted, Content, Instance
from libs.alice.reader import Reader
from libs.alice.writer import HEADER, Writer
from tests.unit.alice import recordings
from tests.unit.alice.graphs import JAVA_TEXT, Shapes, graphs


@given(graphs(), st.integers(1, 400), st.sets(st.integers(0, 3)))
@settings(max_examples=300, deadline=None)
def test_any_graph_comes_back_as_it_was(items: list[Content], size: int, resets: set[int]) -> None:
    """What is written is read with the same shape, sharing and cycles included, and writes the same bytes again."""
    writer, out = Writer(), bytearray(HEADER)
    for n, item in enumerate(items):
        out += writer.reset() if n in resets else b""
        out += writer.write(item)
    reader, again = Reader(), []
    for place in range(0, len(out), size):
        again += reader.feed(bytes(out[place : place + size]))
    assert not reader.is_mid_object
    fresh = Reader().feed(bytes(out))
    if resets & set(range(len(items))):
        assert [Shapes().of(item) for item in items] == [Shapes().of(item) for item in again]  # type: ignore[arg-type]
        return
    before, after = Shapes(), Shapes()
    assert [before.of(item) for item in items] == [after.of(item) for item in again]  # type: ignore[arg-type]
    second = Writer()
    assert HEADER + b"".join(second.write(item) for item in fresh) == out


@given(JAVA_TEXT)
@settings(deadline=None)
def test_any_java_string_survives_modified_utf8(value: str) -> None:
    """NUL, lone surrogates and characters beyond U+FFFF come back, and no zero byte is ever sent."""
    data = text.encode(value)
    assert 0 not in data
    whole = value.encode("utf-16-be", "surrogatepass")
    assert text.decode(data).encode("utf-16-be", "surrogatepass") == whole


def test_a_long_string_takes_the_long_form() -> None:
    """From 65,536 bytes on a string travels as TC_LONGSTRING, and a repetition as a reference."""
    writer = Writer()
    first, second = writer.write("ä" * 40_000), writer.write("ä" * 40_000)
    assert first[0] == 0x7C
    assert second == bytes.fromhex("71007e0000")
    assert Reader().feed(HEADER + first + second) == ["ä" * 40_000] * 2


def test_an_abort_in_the_middle_of_an_object_is_an_object_of_its_own() -> None:
    """A writer that fails sends its exception; what follows stands on fresh handles."""
    exception = recordings.instances(recordings.answered("token-denied"))[0].get("exception")
    writer = Writer()
    out = HEADER + writer.write("before") + writer.write(Aborted(exception)) + writer.write("after")
    before, aborted, after = Reader().feed(out)
    assert (before, after) == ("before", "after")
    assert isinstance(aborted, Aborted)
    assert isinstance(aborted.exception, Instance)
    assert aborted.exception.part("java.lang.Throwable") is not None
    assert out.endswith(b"\x74\x00\x05after")

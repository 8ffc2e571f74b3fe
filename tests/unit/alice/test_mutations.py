from hypothesis import given, settings
from hypothesis import strategies as st

from libs.alice import answers
from libs.alice.limits import Limits
from libs.alice.nodes import Aborted, Instance, TopLevel
from libs.alice.reader import Reader
from libs.runtime.errors import Malformed, NacreError
from tests.unit.alice import recordings
from tests.unit.alice.graphs import Shapes

STREAMS = [recordings.sent(name) for name in recordings.NAMES] + [
    recordings.answered(name) for name in recordings.NAMES
]
READERS = (answers.free_slots, answers.waiting_jobs, answers.job_agent_token, answers.pong)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(st.sampled_from(STREAMS)))
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, max(0, len(data) - 1)))
        kind = draw(st.sampled_from(["flip", "type", "cut", "double", "insert", "end"]))
        if kind == "flip":
            data[place : place + 1] = draw(st.binary(min_size=1, max_size=1))
        elif kind == "type":
            data[place : place + 1] = bytes([draw(st.integers(0x6F, 0x7F))])
        elif kind == "cut":
            del data[place : place + draw(st.integers(1, 40))]
        elif kind == "double":
            data[place:place] = data[place : place + draw(st.integers(1, 80))]
        elif kind == "insert":
            data[place:place] = draw(st.binary(max_size=8))
        else:
            del data[place:]
    return bytes(data)


def read_all(items: list[TopLevel]) -> None:
    """Every typed reading of every object gives a result or one of our errors."""
    for item in items:
        for read in READERS:
            try:
                read(answers.answer(item, item.class_name if isinstance(item, Instance) else ""))
            except NacreError as error:
                assert str(error)


@given(mutated(), st.integers(1, 4000))
@settings(max_examples=1500, deadline=None)
def test_a_mutated_recording_gives_objects_or_malformed(data: bytes, size: int) -> None:
    """Whatever happens to the bytes, the codec answers with objects or Malformed, and goes no further after that."""
    reader = Reader(Limits(object_bytes=1 << 16))
    try:
        for place in range(0, len(data), size):
            read_all(reader.feed(data[place : place + size]))
    except Malformed as fault:
        assert "at byte" in str(fault)
        assert 0 <= reader.offset <= len(data)
        try:
            reader.feed(b"\x70")
        except Malformed as again:
            assert str(again) == str(fault)
        else:
            raise AssertionError("a spent reader went on") from fault


def outcome(data: bytes, size: int) -> tuple[list[str], str, int, int]:
    """The shapes of the objects, the fault, and where the reader stands, for bytes in pieces of that size."""
    reader, shapes, found = Reader(Limits(object_bytes=1 << 12)), Shapes(), list[str]()
    try:
        for place in range(0, len(data), size):
            for item in reader.feed(data[place : place + size]):
                found.append(repr(shapes.of(item.exception if isinstance(item, Aborted) else item)))
        reader.feed(b"")
    except Malformed as fault:
        return found, str(fault), reader.offset, reader.resets
    return found, "", 0, reader.resets


@given(mutated(), st.integers(2, 4000))
@settings(max_examples=300, deadline=None)
def test_pieces_change_neither_objects_nor_faults(data: bytes, size: int) -> None:
    """What is attempted in one go and what is waited for byte by byte come to the same objects and the same error."""
    assert outcome(data, size) == outcome(data, 1)

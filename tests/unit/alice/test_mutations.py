from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from libs.alice.limits import Limits
from libs.alice.nodes import Aborted
from libs.alice.reader import Reader
from libs.runtime.errors import Malformed
from tests.bench.codec_mutations import CASES, MOST_CASE_BYTES, SEED, weight_bytes
from tests.unit.alice import mutations
from tests.unit.alice.graphs import Shapes

SHARE = 100


def test_a_mutated_recording_gives_objects_or_malformed() -> None:
    """One in a hundred of all cases, always the same: objects or Malformed, and nothing more after that."""
    found = Counter(mutations.run(*mutations.mutated(SEED, number)) for number in range(0, CASES, SHARE))
    assert found["objects"] > CASES / SHARE / 50
    assert found["malformed"] > CASES / SHARE / 2


def test_a_mutated_recording_takes_little_memory() -> None:
    """Whatever length, count or handle it claims to have."""
    weights = [weight_bytes(*mutations.mutated(SEED, number)) for number in range(0, CASES, 100 * SHARE)]
    assert 0 < max(weights) < MOST_CASE_BYTES


def test_a_case_is_its_seed_and_number() -> None:
    """The same bytes each time, so that a failure can be looked at; others for other numbers."""
    assert mutations.mutated(SEED, 7) == mutations.mutated(SEED, 7)
    assert len({mutations.mutated(SEED, number)[0] for number in range(50)}) > 40


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


@given(st.integers(0, CASES), st.integers(2, 4000))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_pieces_change_neither_objects_nor_faults(number: int, size: int) -> None:
    """What is attempted in one go and what is waited for byte by byte come to the same objects and the same error."""
    data, _ = mutations.mutated(SEED, number)
    assert outcome(data, size) == outcome(data, 1)

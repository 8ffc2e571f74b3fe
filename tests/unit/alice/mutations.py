"""Recorded streams, changed by chance but always the same way for the same seed and number."""

import random
import struct
from collections.abc import Callable

from libs.alice import answers
from libs.alice.limits import Limits
from libs.alice.nodes import Instance, TopLevel
from libs.alice.reader import Reader
from libs.runtime.errors import Malformed, NacreError
from tests.unit.alice import recordings

STREAMS = [find(name) for find in (recordings.sent, recordings.answered) for name in recordings.NAMES]
TYPED = (
    answers.free_slots,
    answers.waiting_jobs,
    answers.job_agent_token,
    answers.pong,
    answers.uptime,
    answers.ldap_tree,
    answers.ldap_info,
)
LIMITS = Limits(object_bytes=1 << 16)
MOST_CHANGES = 6
# Lengths, counts and handles that a careless reader would believe.
GREAT = [struct.pack(">i", number) for number in (-1, 1 << 30, (1 << 31) - 1, -(1 << 31), 0x7E0000, 0x7E7FFF)]


def _flip(data: bytearray, place: int, chance: random.Random) -> None:
    data[place : place + 1] = chance.randbytes(1)


def _type_code(data: bytearray, place: int, chance: random.Random) -> None:
    data[place : place + 1] = bytes([chance.randint(0x6F, 0x7F)])


def _great_number(data: bytearray, place: int, chance: random.Random) -> None:
    data[place : place + 4] = chance.choice(GREAT)


def _cut(data: bytearray, place: int, chance: random.Random) -> None:
    del data[place : place + chance.randint(1, 40)]


def _double(data: bytearray, place: int, chance: random.Random) -> None:
    data[place:place] = data[place : place + chance.randint(1, 80)]


def _insert(data: bytearray, place: int, chance: random.Random) -> None:
    data[place:place] = chance.randbytes(chance.randint(1, 8))


def _splice(data: bytearray, place: int, chance: random.Random) -> None:
    other = chance.choice(STREAMS)
    data[place:] = other[chance.randint(0, len(other)) :]


def _end(data: bytearray, place: int, chance: random.Random) -> None:
    del data[place:]


CHANGES: tuple[Callable[[bytearray, int, random.Random], None], ...] = (
    _flip,
    _type_code,
    _great_number,
    _cut,
    _double,
    _insert,
    _splice,
    _end,
)


def mutated(seed: int, number: int) -> tuple[bytes, int]:
    """One case: bytes, and the size of the pieces in which they come."""
    chance = random.Random(f"{seed}/{number}")
    data = bytearray(chance.choice(STREAMS))
    for _ in range(chance.randint(1, MOST_CHANGES)):
        chance.choice(CHANGES)(data, chance.randint(0, max(0, len(data) - 1)), chance)
    return bytes(data), chance.choice((1 << 16, chance.randint(1, 4000)))


def run(data: bytes, piece_bytes: int) -> str:
    """What came of it: `objects` or `malformed`. AssertionError, or any other error, when the codec broke its word."""
    reader = Reader(LIMITS)
    try:
        for place in range(0, len(data), piece_bytes):
            _read_all(reader.feed(data[place : place + piece_bytes]))
        # A fault that follows a whole object is told at the next call.
        reader.feed(b"")
    except Malformed as fault:
        assert "at byte" in str(fault)
        assert 0 <= reader.offset <= len(data)
        _refuses_more(reader, fault)
        return "malformed"
    return "objects"


def _read_all(items: list[TopLevel]) -> None:
    """Every typed reading of every object gives a result or one of our errors."""
    for item in items:
        for read in TYPED:
            try:
                read(answers.answer(item, item.class_name if isinstance(item, Instance) else ""))
            except NacreError as error:
                assert str(error)


def _refuses_more(reader: Reader, fault: Malformed) -> None:
    try:
        reader.feed(b"\x70")
    except Malformed as again:
        assert str(again) == str(fault)
    else:
        raise AssertionError("a spent reader went on") from fault

"""The ApMon codec: recorded datagrams read as indexed, nothing makes it raise."""

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.apmon import datagram

VECTORS = Path(__file__).parents[2] / "vectors" / "apmon"
CASES: list[dict[str, Any]] = [c for c in json.loads((VECTORS / "index.json").read_text())["vectors"] if c["file"]]
BODIES = [(VECTORS / case["file"]).read_bytes() for case in CASES]
HEADER = b"\0\0\0\x0bv:2.2.9_jp:\0" + b"\0\0\0\1" * 2


def plain(value: str | int | float) -> str | int | float:
    """As the index writes it: NaN as a string."""
    return "NaN" if isinstance(value, float) and math.isnan(value) else value


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["name"]))
def test_recorded_datagrams_read_as_indexed(case: dict[str, Any]) -> None:
    """Every recorded datagram reads to exactly the fields and parameters of the index."""
    found = datagram.decode((VECTORS / case["file"]).read_bytes())
    want = case["decoded"]
    assert found.ok is want["ok"], found.error
    assert [[p.name, int(p.type), plain(p.value)] for p in found.parameters] == want["params"]
    fields = {
        "header": found.header,
        "version": found.version,
        "password": found.password,
        "instance_id": found.instance,
        "seq": found.sequence,
        "cluster": found.cluster,
        "node": found.node,
        "nparams": found.announced,
        "timestamp": found.timestamp_s,
    }
    assert fields == {name: want.get(name) for name in fields}
    assert found.trailing_bytes == want.get("trailing", 0)
    assert found.salvaged is (not want["ok"] and bool(want["params"]))


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", "ends at byte 0 inside the header"),
        (b"\0\0\x80\0", "the header announces 32768 bytes"),
        (b"\0\0\0\5abcd", "ends at byte 8 inside the header"),
        (b"\0\0\0\4v:2.", "the header is not v:<version>p:<password>"),
        (b"\0\0\0\5v:xp:\0\0\0", "the header is not"),
        (b"\0\0\0\x0cv:99999999p:", "the header is not"),
        (HEADER + b"\0\0\0\1c\0\0\0\0\0\0\1n\0\0\0\0\0\0\1" + b"\0\0\0\0", "parameter 1 of 1 has no name"),
        (HEADER + b"\0\0\0\1c\0\0\0\0\0\0\1n\0\0\0\0\0\0\0" + b"\0\0\0", "inside the timestamp"),
        (HEADER + b"\0\0\0\1c\0\0\0\0\0\0\1n\0\0\0\0\0\0\1" + b"\0\0\0\1x\0\0\0\0\0\0\5abcd", "a parameter's value"),
    ],
)
def test_the_error_names_the_fault(body: bytes, error: str) -> None:
    """A broken datagram's error says where reading stopped and why."""
    found = datagram.decode(body)
    assert not found.ok
    assert not found.salvaged
    assert error in str(found.error)


def test_no_error_quotes_the_header() -> None:
    """A header that cannot be read stays out of the error: it may hold a password."""
    assert "s3cret" not in str(datagram.decode(b"\0\0\0\x0cv:2.xp:s3cret"[:16]).error)


def test_a_version_of_one_number_has_no_sequence() -> None:
    """A version without a minor number reads as <major>.0, and its trailing bytes are no timestamp."""
    found = datagram.decode(b"\0\0\0\5v:1p:\0\0\0\0\0\0\1c\0\0\0\0\0\0\1n\0\0\0\0\0\0\0" + b"\0\0\0\7")
    assert (found.ok, found.version, found.sequence, found.timestamp_s) == (True, "1", None, None)
    assert found.trailing_bytes == 4


@given(st.binary(max_size=2000))
def test_random_bytes_give_a_result(body: bytes) -> None:
    """Random bytes never raise, and nothing is read that was not there."""
    assert_bounded(datagram.decode(body), body)


@given(st.sampled_from([b for b in BODIES if len(b) < 1500]), st.integers(0, 2**32), st.integers(1, 8))
def test_mutated_datagrams_give_a_result(body: bytes, seed: int, changes: int) -> None:
    """Recorded datagrams with bytes changed, cut or repeated never raise, and stay bounded by their size."""
    chance = random.Random(seed)
    mutated = bytearray(body)
    for _ in range(changes):
        place = chance.randrange(len(mutated) + 1)
        match chance.randrange(4):
            case 0:
                mutated[place : place + 1] = chance.randbytes(1)
            case 1:
                mutated[place : place + 4] = chance.choice([b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0"])
            case 2:
                del mutated[place:]
            case _:
                mutated[place:place] = mutated[:place][-64:]
    assert_bounded(datagram.decode(bytes(mutated)), bytes(mutated))


def assert_bounded(found: datagram.Datagram, body: bytes) -> None:
    """No more parameters and text than the bytes can hold."""
    assert 12 * len(found.parameters) <= len(body)
    assert sum(len(p.name) + (len(p.value) if isinstance(p.value, str) else 0) for p in found.parameters) <= len(body)
    assert found.ok or found.error
    assert 0 <= found.trailing_bytes <= len(body)

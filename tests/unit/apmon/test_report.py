"""Our own reports in the words of ApMon: they read back, bounded, with nothing in them that MonALISA cannot store."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.apmon import datagram, report
from libs.runtime.errors import Misconfigured

INT32 = st.integers(-(2**31), 2**31 - 1)
TEXT = st.text(max_size=40)
VALUES = st.dictionaries(TEXT, st.none() | TEXT | st.integers() | st.floats() | st.booleans(), max_size=40)


@given(st.tuples(TEXT, TEXT, TEXT), VALUES, INT32, st.integers(1, report.LAST_SEQUENCE))
def test_reports_read_back(names: tuple[str, str, str], values: dict[str, Any], instance: int, sequence: int) -> None:
    """What encode writes, decode reads back: bounded datagrams, sequences in a row, only known values, in order."""
    cluster, node, password = names
    datagrams = report.encode(cluster, node, values, instance=instance, sequence=sequence, password=password)
    found = [datagram.decode(body) for body in datagrams]
    assert all(len(body) <= report.MAX_REPORT_BYTES for body in datagrams)
    assert all(one.ok and one.parameters and one.trailing_bytes == 0 for one in found)
    for one in found:
        assert (one.cluster, one.node, one.password, one.instance) == (cluster, node, password, instance)
    for place, one in enumerate(found):
        assert one.sequence == report.following_sequence(sequence, place)
    sent = [parameter for one in found for parameter in one.parameters]
    assert [p.name for p in sent] == [name for name, value in values.items() if known(name, value)]
    for parameter in sent:
        value = values[parameter.name]
        assert parameter.value == (float(value) if parameter.type is datagram.XdrType.REAL64 else value)


def known(name: str, value: Any) -> bool:
    """Whether MonALISA has a word for this value."""
    blanks = "".join(map(chr, range(33)))
    if not name.strip(blanks):
        return False
    if isinstance(value, str):
        return bool(value.strip(blanks))
    return value is not None and (isinstance(value, int) or math.isfinite(value))


def test_numbers_take_the_smallest_right_type() -> None:
    """Whole numbers are INT32 while they fit, then REAL64; what is too large for both is left out."""
    values = {"edge": 2**31 - 1, "over": 2**31, "half": 0.5, "huge": 2**1024, "yes": True}
    (body,) = report.encode("C", "n", values, instance=1, sequence=1)
    types = {p.name: p.type.name for p in datagram.decode(body).parameters}
    assert types == {"edge": "INT32", "over": "REAL64", "half": "REAL64", "yes": "INT32"}


def test_text_is_cut_between_characters() -> None:
    """A long text is cut to its bound without breaking a character; one that becomes blank is left out."""
    (body,) = report.encode("C", "n", {"error": "x" + "é" * 500}, instance=1, sequence=1)
    (parameter,) = datagram.decode(body).parameters
    assert parameter.value == "x" + "é" * 255
    assert report.encode("C", "n", {"error": " " * 600 + "x"}, instance=1, sequence=1) == []


def test_many_values_are_split() -> None:
    """Values that exceed one datagram are spread over datagrams with consecutive sequence numbers."""
    values = {f"parameter_{number:03}": number for number in range(200)}
    datagrams = report.encode("C", "n", values, instance=1, sequence=report.LAST_SEQUENCE)
    assert len(datagrams) > 3
    sequences = [datagram.decode(body).sequence for body in datagrams]
    assert sequences == [report.LAST_SEQUENCE, *range(1, len(datagrams))]


def test_names_that_leave_no_room_are_refused() -> None:
    """A cluster name so long that no value fits is a configuration error, not a fragmented datagram."""
    with pytest.raises(Misconfigured, match="shorten the names"):
        report.encode("C" * 1400, "n", {"a": 1}, instance=1, sequence=1)

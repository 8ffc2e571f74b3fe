"""Batches of datagrams: what is written reads back, anything else is Malformed."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.apmon import batches
from libs.runtime.errors import Malformed

RECEIVED = st.builds(
    batches.Received,
    st.integers(0, 2**64 - 1),
    st.binary(min_size=16, max_size=16),
    st.integers(0, 65_535),
    st.binary(max_size=300),
)


@given(st.lists(RECEIVED, max_size=80))
def test_batches_read_back(batch: list[batches.Received]) -> None:
    """Every field and byte of every datagram comes back, in order."""
    assert batches.decode(batches.encode(batch)) == batch


@given(st.lists(RECEIVED, max_size=5), st.data())
def test_any_cut_or_extension_is_malformed(batch: list[batches.Received], data: Any) -> None:
    """A batch that misses or has extra bytes is refused whole."""
    message = batches.encode(batch)
    cut = data.draw(st.integers(0, len(message) - 1))
    with pytest.raises(Malformed):
        batches.decode(message[:cut])
    with pytest.raises(Malformed):
        batches.decode(message + b"x")


@given(st.binary(max_size=500))
def test_random_bytes_read_or_are_malformed(message: bytes) -> None:
    """Random bytes give a batch that encodes to the same bytes, or Malformed."""
    try:
        batch = batches.decode(message)
    except Malformed:
        return
    assert batches.encode(batch) == message


def test_the_largest_datagram_fits() -> None:
    """A datagram of 65,507 bytes, the most UDP carries, is kept whole."""
    received = batches.Received(1, batches.packed_address("::1"), 8884, bytes(65_507))
    assert batches.decode(batches.encode([received])) == [received]


def test_a_huge_count_is_refused_at_once() -> None:
    """A count beyond the bound is refused before anything is read."""
    with pytest.raises(Malformed, match="at most 4096"):
        batches.decode(b"\xff\xff\xff\xff" + bytes(100))


def test_addresses_pack_and_print() -> None:
    """IPv4 travels as IPv4-mapped IPv6 and prints as IPv4; a zone is left out."""
    assert batches.packed_address("192.0.2.1").hex() == "00000000000000000000ffffc0000201"
    for text in ("192.0.2.1", "2001:db8::7", "::1"):
        assert batches.printable_address(batches.packed_address(text)) == text
    assert batches.packed_address("fe80::1%eth0") == batches.packed_address("fe80::1")
    with pytest.raises(ValueError, match="does not appear"):
        batches.packed_address("somewhere")

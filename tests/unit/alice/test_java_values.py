import struct
import uuid
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.alice import descriptors, java_values
from libs.alice.java_values import Long
from libs.alice.nodes import Array, ClassDescriptor, Content, Instance, Value
from libs.alice.reader import Reader
from libs.alice.requests import Principal, RequestEncoder, WaitingJobsRequest
from libs.alice.writer import HEADER, Writer
from libs.runtime.errors import Malformed
from tests.unit.alice import recordings
from tests.unit.alice.graphs import JAVA_TEXT

# The world's central services know these by a table of their own; see tests/contract/alice.
NOT_RECORDED = {descriptors.PING, descriptors.UPTIME, descriptors.LDAP_INFO, descriptors.LDAP_TREE}


def through_the_wire(value: Content) -> Value:
    (found,) = Reader().feed(HEADER + Writer().write(value))
    assert found is None or isinstance(found, (str, Instance, Array))
    return found


def test_our_descriptors_are_those_seen_on_the_wire() -> None:
    """Each class that we write equals what the real client and server sent."""
    seen: dict[str, object] = {}
    for name in recordings.NAMES:
        for data in (recordings.sent(name), recordings.answered(name)):
            for item in recordings.instances(data):
                collect(item, seen)
    common = seen.keys() & descriptors.TABLE.keys()
    assert common >= descriptors.TABLE.keys() - NOT_RECORDED
    for name in common:
        assert seen[name] == facts(descriptors.TABLE[name]), name


def facts(descriptor: object) -> object:
    assert isinstance(descriptor, ClassDescriptor)
    fields = [(field.code, field.name, field.signature) for field in descriptor.fields]
    parent = descriptor.parent.name if descriptor.parent else None
    return (descriptor.serial_version, descriptor.flags, fields, parent)


def collect(item: Value, seen: dict[str, object]) -> None:
    """Every descriptor under a request, by class name."""
    descriptor = getattr(item, "descriptor", None)
    while descriptor is not None:
        if descriptor.name in seen and not isinstance(item, (Instance, Array)):
            break
        seen[descriptor.name] = facts(descriptor)
        descriptor = descriptor.parent
    if isinstance(item, Array) and not isinstance(item.items, bytes):
        for inner in item.items:
            collect(inner, seen)
    if isinstance(item, Instance):
        for part in item.parts:
            for value in part.fields.values():
                if value is not item:
                    collect(value, seen)
            for content in part.annotation or []:
                if not isinstance(content, bytes):
                    collect(content, seen)


@given(st.integers(-(1 << 31), (1 << 31) - 1), st.integers(-(1 << 63), (1 << 63) - 1), st.uuids())
@settings(deadline=None)
def test_boxed_numbers_and_uuids_come_back(small: int, large: int, name: uuid.UUID) -> None:
    """Integer, Long and UUID hold every value of their range."""
    assert java_values.int_of(through_the_wire(java_values.integer(small))) == small
    assert java_values.int_of(through_the_wire(java_values.long(large))) == large
    found = through_the_wire(java_values.uuid_node(name))
    assert isinstance(found, Instance)
    halves = (found.get("mostSigBits"), found.get("leastSigBits"))
    assert struct.pack(">qq", *halves) == name.bytes


@pytest.mark.parametrize(("box", "value"), [(java_values.integer, 1 << 31), (java_values.long, -(1 << 63) - 1)])
def test_numbers_outside_their_type_are_refused(box: Callable[[int], Instance], value: int) -> None:
    """What Java's type cannot hold is an error before anything is sent."""
    with pytest.raises(ValueError, match="does not fit"):
        box(value)


@given(st.dictionaries(JAVA_TEXT, st.text(), max_size=40))
@settings(deadline=None)
def test_maps_come_back_in_the_order_of_a_hash_table(entries: dict[str, str]) -> None:
    """A HashMap keeps its entries; its buckets grow to the power of two that a filled table has."""
    node = java_values.hash_map(entries)
    again = java_values.map_of(through_the_wire(node))
    assert again is not None
    buckets = java_values.capacity(len(entries))
    assert again == {text_through(key): value for key, value in entries.items()}
    assert buckets >= 16
    assert buckets & (buckets - 1) == 0
    assert len(entries) <= 0.75 * buckets
    spread = [java_values.hash_code(key) ^ java_values.hash_code(key) >> 16 for key in again]
    assert [code & (buckets - 1) for code in spread] == sorted(code & (buckets - 1) for code in spread)


def text_through(value: str) -> str:
    """Surrogate pairs given apart join, as in Java's own strings."""
    return value.encode("utf-16-be", "surrogatepass").decode("utf-16-be", "surrogatepass")


def test_hash_codes_are_javas() -> None:
    """Known values of String.hashCode, one beyond 16 bits and one that overflows."""
    assert java_values.hash_code("") == 0
    assert java_values.hash_code("TTL") == 83404
    assert java_values.hash_code("😀") == 1772899
    assert java_values.hash_code("polygenelubricants") == 0x80000000


def test_absent_values_are_none_and_wrong_ones_malformed() -> None:
    """null is None where it may stand; another type is named in the error."""
    assert java_values.text_of(None) is None
    assert java_values.list_of(None) is None
    assert java_values.map_of(None) is None
    assert java_values.list_of(through_the_wire(java_values.array_list(["a", "b"]))) == ["a", "b"]
    wrong = java_values.array_list([])
    for read in (java_values.text_of, java_values.int_of, java_values.map_of, java_values.bytes_of):
        with pytest.raises(Malformed, match=r"not java\.util\.ArrayList"):
            read(wrong)
    with pytest.raises(Malformed, match="a list was expected, not Array"):
        java_values.list_of(Array(descriptors.TABLE[descriptors.BYTES], b""))
    broken = java_values.instance(descriptors.INTEGER)
    broken.parts[-1].fields["value"] = None
    with pytest.raises(Malformed, match="boxed number"):
        java_values.int_of(broken)


def test_a_map_with_half_an_entry_is_malformed() -> None:
    """A key without its value is no map."""
    node = java_values.hash_map({"a": "b"})
    assert node.parts[-1].annotation is not None
    del node.parts[-1].annotation[-1]
    with pytest.raises(Malformed, match="a map was expected"):
        java_values.map_of(node)


def test_a_site_map_travels_with_its_exact_types() -> None:
    """String, Integer, Long and lists of strings arrive as what they are."""
    encoder = RequestEncoder(Principal("me", (b"der",)), uuid.UUID(int=1))
    data = encoder.encode(WaitingJobsRequest({"a": 1, "b": Long(1), "c": "x", "d": ["y", "z"], "e": 1000}), 1)
    (request,) = recordings.instances(HEADER + data)
    found = java_values.map_of(request.get("matchRequest"))
    assert found is not None
    kinds = {key: item.class_name if isinstance(item, Instance) else item for key, item in found.items()}
    assert kinds == {
        "a": descriptors.INTEGER,
        "b": descriptors.LONG,
        "c": "x",
        "d": descriptors.ARRAY_LIST,
        "e": descriptors.INTEGER,
    }
    assert java_values.list_of(found["d"]) == ["y", "z"]

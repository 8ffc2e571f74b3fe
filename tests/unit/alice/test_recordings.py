import random

import pytest

from libs.alice import answers, java_values
from libs.alice.nodes import Instance, TopLevel
from libs.alice.reader import Reader
from libs.alice.requests import RequestEncoder, WaitingJobsRequest
from libs.alice.site_map import CeFacts, site_map
from libs.alice.writer import HEADER, Writer
from libs.runtime.errors import Refused
from tests.unit.alice import recordings

STREAMS = [(name, way) for name in recordings.NAMES for way in ("sent", "answered")]


def stream(name: str, way: str) -> bytes:
    return recordings.sent(name) if way == "sent" else recordings.answered(name)


@pytest.mark.parametrize(("name", "way"), STREAMS)
def test_every_recorded_stream_comes_back_byte_for_byte_from_its_nodes(name: str, way: str) -> None:
    """Parsing loses nothing, whatever pieces the bytes come in; resets are kept where they stood."""
    data = stream(name, way)
    chance = random.Random(name)
    reader, writer, out = Reader(), Writer(), bytearray(HEADER)
    for _ in range(3):
        reader, writer, out, place = Reader(), Writer(), bytearray(HEADER), 0
        while place < len(data):
            size, resets = chance.choice([1, 2, 7, 64]), reader.resets
            for item in reader.feed(data[place : place + size]):
                out += writer.write(item)
            if reader.resets > resets:
                out += writer.reset()
            place += size
        assert bytes(out) == data
        assert not reader.is_mid_object


@pytest.mark.parametrize("name", recordings.NAMES)
def test_every_recorded_client_stream_is_emitted_byte_for_byte_from_typed_requests(name: str) -> None:
    """What we send for the same requests is what the real Java client sent."""
    requests = recordings.instances(recordings.sent(name))
    encoder = RequestEncoder(recordings.principal(requests[0]), recordings.vm_uuid(requests[0]))
    out = encoder.header
    for request in requests:
        out += encoder.encode(recordings.typed(request), java_values.int_of(request.get("requestID")))
    assert out == recordings.sent(name)


@pytest.mark.parametrize("name", ["waiting-ok", "waiting-zero"])
def test_our_site_map_is_the_real_ones_byte_for_byte(name: str) -> None:
    """A site map made from facts about the CE gives the recorded request."""
    request = recordings.instances(recordings.sent(name))[0]
    recorded = recordings.plain_map(request.get("matchRequest"))
    ttl_s = recorded["TTL"]
    assert isinstance(ttl_s, int)
    facts = CeFacts(
        ce="ALICE::JTestSite::firstce",
        host="vobox.localdomain",
        ttl_s=ttl_s,
        cores=8,
        partitions=("part1",),
        disk="100000000",
        work_directory="/tmp/jalien-run",
    )
    encoder = RequestEncoder(recordings.principal(request), recordings.vm_uuid(request))
    made = encoder.encode(WaitingJobsRequest(site_map(facts)), java_values.int_of(request.get("requestID")))
    assert encoder.header + made == recordings.sent(name)


def result(reply: TopLevel) -> str:
    """One line as the recording's notes have it."""
    assert isinstance(reply, Instance)
    try:
        found = answers.answer(reply, reply.class_name)
    except Refused as refused:
        return f"ServerException: {str(refused).removeprefix('the central services refused: ')}"
    if reply.class_name.endswith("GetNumberFreeSlots"):
        slots = answers.free_slots(found)
        return str([slots.code] if slots.max_jobs is None else [slots.code, slots.max_jobs, slots.max_queued])
    if reply.class_name.endswith("GetNumberWaitingJobs"):
        return str(answers.waiting_jobs(found).count)
    token = answers.job_agent_token(found)
    assert "key" not in repr(token)
    return "CN=JobAgent" if b"JobAgent" in token.certificate_der and token.key_der else "empty"


@pytest.mark.parametrize("name", recordings.NAMES)
def test_every_recorded_answer_means_what_the_recording_says(name: str) -> None:
    """All server streams become typed answers or a ServerException's root message."""
    replies = recordings.objects(recordings.answered(name))
    expected = [note["result"] for note in recordings.notes(name) if note["result"] != "null"]
    assert len(replies) == len(expected)
    for reply, wanted in zip(replies, expected, strict=True):
        assert wanted.startswith(result(reply)), wanted


def test_resets_of_the_server_are_counted() -> None:
    """The 25-request session holds the two resets of the real server."""
    reader = Reader()
    assert len(reader.feed(recordings.answered("session-25"))) == 25
    assert reader.resets == 2
    assert reader.offset == len(recordings.answered("session-25"))


def test_a_client_reset_may_stand_anywhere() -> None:
    """After a reset nothing refers back, and the requests stay the same."""
    requests = recordings.instances(recordings.sent("session-25"))
    encoder = RequestEncoder(recordings.principal(requests[0]), recordings.vm_uuid(requests[0]))
    out = encoder.header
    for n, request in enumerate(requests):
        if n % 3 == 2:
            out += encoder.reset()
        out += encoder.encode(recordings.typed(request), n + 1)
    reader = Reader()
    again = [item for item in reader.feed(out) if isinstance(item, Instance)]
    assert reader.resets == 8
    assert [recordings.typed(item) for item in again] == [recordings.typed(item) for item in requests]

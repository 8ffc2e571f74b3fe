"""The world's central services against the recorded sessions of real ones, byte for byte, without a network."""

import json
import random
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.central_services.conftest import VECTORS, recorded
from tests.world.central_services.defaults import site_document
from tests.world.central_services.directory import Directory, slash_dn
from tests.world.central_services.generations import GENERATIONS
from tests.world.central_services.java_classes import CLASSES, is_known, settle
from tests.world.central_services.java_nodes import STREAM_HEADER, Array, ClassDesc, Instance, StreamFault
from tests.world.central_services.java_reader import StreamReader
from tests.world.central_services.java_writer import StreamWriter
from tests.world.central_services.peer import Hangup, Peer
from tests.world.central_services.pki import Authority
from tests.world.central_services.requests import Requests, described
from tests.world.central_services.site_config import SiteConfig
from tests.world.central_services.task_queue import Limits, Needs, TaskQueue

SESSIONS = sorted(path.name.removesuffix(".c2s.bin") for path in VECTORS.glob("*.c2s.bin"))
STREAMS = sorted(path.name for path in VECTORS.glob("*.bin"))
CE = "ALICE::JTestSite::firstce"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def tasks(tmp_path: Path) -> Iterator[TaskQueue]:
    """A task queue set up as the recorded one."""
    made = TaskQueue(tmp_path / "tasks")
    for name in ("firstce", "lockedce", "nolimits"):
        made.add_ce(f"ALICE::JTestSite::{name}", Limits(100, 10))
    made.set_limits("ALICE::JTestSite::nolimits", Limits(None, None))
    made.set_lock("ALICE::JTestSite::lockedce", True)
    made.add_grid_jobs(CE, 49, Needs("aliprod", ttl_s=60, cores=1), run_s=1)
    yield made
    made.close()


@pytest.fixture
def requests(tasks: TaskQueue, authority: Authority, tmp_path: Path) -> Requests:
    """The 2022 release with the site as recorded."""
    document = site_document(
        site="JTestSite", ces=["firstce"], ce_host="vobox.localdomain", subjects={}, account="aliprod"
    )
    directory = Directory(SiteConfig(tmp_path / "site.json", "JTestSite", document))
    generation = GENERATIONS["2022"]
    return Requests(tasks, directory, authority, generation, host="central", ce_host="vobox.localdomain")


@pytest.fixture
def peer(authority: Authority) -> Peer:
    certificate = authority.client("vobox", "vobox.localdomain").certificate
    return Peer("aliprod", slash_dn(certificate), certificate)


def copy_what_differs(reply: Instance, original: Instance) -> None:
    """Times, certificates and keys differ per recording; everything else must not."""
    ours, theirs = reply.fields["requester_uid"], original.fields["requester_uid"]
    assert isinstance(ours, Instance) and isinstance(theirs, Instance)
    ours.fields["lRolesChecked"] = theirs.fields["lRolesChecked"]
    for outer, inner in (("certificate", "data"), ("privateKey", "encoded")):
        made, seen = reply.fields.get(outer), original.fields.get(outer)
        if isinstance(made, Instance) and isinstance(seen, Instance):
            here, there = made.fields[inner], seen.fields[inner]
            assert isinstance(here, Array) and isinstance(there, Array)
            here.items = there.items


@pytest.mark.parametrize("name", SESSIONS)
async def test_recorded_requests_get_the_recorded_replies(name: str, requests: Requests, peer: Peer) -> None:
    """Fed recorded client bytes, the server writes the recorded bytes, but for times, certificates and keys."""
    wanted = recorded(name, "s2c")
    originals = StreamReader().feed(wanted)
    reader, writer, written = StreamReader(requests.knows, settle), StreamWriter(), STREAM_HEADER
    for index, request in enumerate(reader.feed(recorded(name, "c2s"))):
        try:
            reply = await requests.answer(request, peer)
        except Hangup:
            assert name == "token-nulltype"
            break
        original = originals[index]
        assert isinstance(reply, Instance) and isinstance(original, Instance)
        copy_what_differs(reply, original)
        written += writer.write(reply)
        if index % 10 == 9:
            written += writer.reset()
    assert written == wanted


@pytest.mark.parametrize("name", STREAMS)
def test_recorded_streams_are_re_emitted(name: str) -> None:
    """Read in small pieces and written again, each recorded stream is the same."""
    data = (VECTORS / name).read_bytes()
    reader, writer, written, resets = StreamReader(), StreamWriter(), STREAM_HEADER, 0
    for at in range(0, len(data), 13):
        for node in reader.feed(data[at : at + 13]):
            written += writer.write(node)
        if reader.resets > resets:
            resets = reader.resets
            written += writer.reset()
    assert written == data


def test_classes_are_as_recorded() -> None:
    """Every recorded class is in the program's own table as it was seen."""
    recordings = json.loads((VECTORS / "class-descriptors.json").read_text())

    def shown(desc: ClassDesc) -> dict[str, object]:
        fields = [[field.kind, field.name, field.signature or None] for field in desc.fields]
        parent = desc.parent.name if desc.parent else None
        return {"fields": fields, "flags": desc.flags, "suid": desc.suid, "super": parent}

    assert {name: shown(CLASSES[name]) for name in recordings} == recordings


def test_message_ranges_are_where_the_recording_says() -> None:
    """Each range of a session's description holds exactly one object."""
    reader, data = StreamReader(), recorded("session-25", "s2c")
    described = json.loads((VECTORS / "session-25.json").read_text())["messages"]
    assert reader.feed(data[:4]) == []
    assert all(len(reader.feed(data[slice(*message["s2c"])])) == 1 for message in described)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        STREAM_HEADER + b"\x00",
        STREAM_HEADER + b"\x71\x00\x7e\x00\x00",
        STREAM_HEADER + b"\x73\x70",
        STREAM_HEADER + b"\x74\x00\x01\xff",
        STREAM_HEADER + b"\x7c\x7f\xff\xff\xff\xff\xff\xff\xff",
        STREAM_HEADER + b"\x75" * 2000,
        STREAM_HEADER + b"\x73\x72\x00\x01A" + bytes(8) + b"\x02\x00\x01Q\x00\x01x\x78\x70",
    ],
)
def test_garbage_is_a_fault(data: bytes) -> None:
    """What is no object stream raises StreamFault and nothing else."""
    with pytest.raises(StreamFault):
        StreamReader(is_known, settle).feed(data)


async def test_mutilated_requests_break_nothing(requests: Requests, peer: Peer) -> None:
    """Recorded requests with bytes changed, cut and put in get a reply that can be written, or end the connection."""
    dice = random.Random(3)
    names = [name for name in SESSIONS if name not in ("session-25", "token-ok")]
    for _ in range(600):
        data = bytearray(recorded(dice.choice(names), "c2s"))
        for _ in range(dice.randint(1, 3)):
            at = dice.randrange(4, len(data))
            new = bytes(dice.choice([0x70, 0x71, 0x78, dice.randrange(256)]) for _ in range(dice.randint(0, 3)))
            data[at : at + dice.randint(0, 3)] = new
        try:
            for node in StreamReader(requests.knows, settle).feed(bytes(data)):
                if (reply := await requests.answer(node, peer)) is not None:
                    assert StreamWriter().write(reply) and described(reply)
        except (StreamFault, Hangup, RecursionError):
            continue


def test_an_object_without_end_is_a_fault() -> None:
    """An object that never ends is refused once it is larger than the bound."""
    reader = StreamReader()
    array_of_bytes = STREAM_HEADER + b"\x75\x72\x00\x02[B" + struct.pack(">q", 1) + b"\x02\x00\x00\x78\x70"
    with pytest.raises(StreamFault):
        reader.feed(array_of_bytes + struct.pack(">i", 1 << 30))


def test_subjects_are_written_as_central_services_do(authority: Authority) -> None:
    """A subject is mapped to the form of the directory: /C=.../O=.../CN=..."""
    identity = authority.client("vobox", "vobox.localdomain")
    assert slash_dn(identity.certificate) == "/C=CH/O=JAliEn/CN=vobox.localdomain"

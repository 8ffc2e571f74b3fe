"""Several servers, certificates that change or end under a connection, and streams that do not end."""

import logging
import os
import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from libs.alice import client as client_module
from libs.alice.client import CentralServices
from libs.alice.connection import Server, Settings
from libs.alice.failures import ClosedWithoutReply, CutOff, UnknownSubject, Untrusted, kind
from libs.alice.identity import CurrentIdentity, Identity
from libs.runtime import clock
from libs.runtime.errors import CredentialExpired, Malformed, Misconfigured, NacreError, Unreachable
from libs.runtime.site import CentralServices as Table
from tests.contract.alice.replay import CE, Authority, failure, hang_up, recorded, serving, settings, silence
from tests.unit.alice import recordings


async def slots(client: CentralServices) -> int | None:
    """The code of one answer that was recorded as open."""
    return (await client.free_slots("h.d", CE)).code


async def test_the_next_server_answers_for_one_that_is_not_there(authority: Authority) -> None:
    """A closed port costs nothing but a look; whoever answers is kept and told."""
    async with (
        serving(authority, recorded("session-25")) as server,
        CentralServices(settings(authority, 1, server.port)) as client,
    ):
        assert client.server == ""
        assert await slots(client) == 0
        assert client.server == f"localhost:{server.port}"
        await client.waiting_jobs({})
        assert server.connections == 1


async def test_the_next_server_is_asked_after_one_that_fails(authority: Authority, tmp_path: Path) -> None:
    """One that is silent, one that closes, one that is not trusted: each costs one request, then another is asked."""
    theirs = Authority(tmp_path, "theirs")
    async with (
        serving(authority, silence) as mute,
        serving(authority, hang_up) as rude,
        serving(theirs, recorded("freeslots-ok"), clients=authority) as false,
        serving(authority, recorded("session-25")) as good,
    ):
        ports = (mute.port, rude.port, false.port, good.port)
        async with CentralServices(settings(authority, *ports, read_timeout_s=0.3)) as client:
            assert isinstance(await failure(client.ping()), UnknownSubject)
            assert isinstance(await failure(client.ping()), ClosedWithoutReply)
            assert await slots(client) == 0
        assert (mute.connections, rude.connections, good.connections) == (1, 1, 1)
        assert false.requests == []


async def test_every_server_that_failed_is_named(authority: Authority, tmp_path: Path) -> None:
    """All texts are in the error, whose kind is the first that is more than being away."""
    theirs = Authority(tmp_path, "theirs")
    async with serving(theirs, silence, clients=authority) as false:
        error = await failure(CentralServices(settings(authority, 1, false.port)).ping())
    assert isinstance(error, Untrusted)
    assert "localhost:1: 127.0.0.1 refused the connection" in str(error)
    assert f"localhost:{false.port} cannot be trusted" in str(error)


def test_servers_come_from_the_site_file() -> None:
    """The first one, then the others in their order, IPv6 addresses without brackets."""
    table = Table(ca=Path("a"), certificate=Path("c"), key=Path("k"), account="x", others=["b:1", "[2001:db8::1]:2"])
    servers = Settings.of(table).servers
    assert servers == (Server("alice-jcentral.cern.ch", 8098), Server("b", 1), Server("2001:db8::1", 2))


async def test_a_connection_is_not_kept_for_ever(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond its age the next request goes over a fresh one, which verifies the server again."""
    async with (
        serving(authority, recorded("session-25")) as server,
        CentralServices(settings(authority, server.port)) as client,
    ):
        await slots(client)
        await client.waiting_jobs({})
        monkeypatch.setattr(client_module, "MOST_AGE_S", 0.0)
        await slots(client)
        assert server.connections == 2


def put(found: Identity, certificate: Path, key: Path) -> None:
    """Put another pair in place, as a renewal does: each file replaced at once."""
    for new, old in ((certificate, found.certificate), (key, found.key)):
        part = old.with_suffix(".part")
        shutil.copy(new, part)
        os.replace(part, old)


async def test_changed_certificates_take_effect_with_the_next_request(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    """Half a pair changes nothing and is logged once; the whole pair is shown to the server, over a new connection."""
    caplog.set_level(logging.INFO, "libs.alice.identity")
    async with serving(authority, recorded("session-25")) as server:
        ours = settings(authority, server.port)
        async with CentralServices(ours) as client:
            await slots(client)
            certificate, key = authority.issue("renewed")
            put(ours.identity, certificate, ours.identity.key)
            await client.waiting_jobs({})
            await slots(client)
            assert (server.connections, client.check_files().subject) == (1, "/C=ch/O=Test/CN=client")
            put(ours.identity, certificate, key)
            await slots(client)
            assert (server.connections, client.check_files().subject) == (2, "/C=ch/O=Test/CN=renewed")
            assert server.subjects == ["client", "renewed"]
    lines = [record.getMessage() for record in caplog.records]
    assert ["does not fit" in line for line in lines] == [True, False]
    assert "what was read before stays in use" in lines[0]


def test_one_identity_serves_many_clients(authority: Authority) -> None:
    """The same object until a file changes, a vanished file included; never fit is Misconfigured."""
    ours = settings(authority, 1)
    current = CurrentIdentity(ours.identity)
    first = current.loaded()
    assert CentralServices(ours, current).check_files() is first is current.loaded()
    ours.identity.key.unlink()
    assert current.loaded() is first
    with pytest.raises(Misconfigured, match="host key"):
        CurrentIdentity(ours.identity).loaded()


async def test_a_certificate_that_ends_while_connected_is_not_used_on(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is sent after its end; the renewed one goes on by itself."""
    async with serving(authority, recorded("session-25")) as server:
        ours = settings(authority, server.port, days=1)
        async with CentralServices(ours) as client:
            await slots(client)
            later = clock.now() + timedelta(days=2)
            monkeypatch.setattr(clock, "now", lambda: later)
            for _ in range(2):
                error = await failure(client.waiting_jobs({}))
                assert isinstance(error, CredentialExpired)
                assert "by this machine's clock" in str(error)
            assert len(server.requests) == 1
            put(ours.identity, *authority.issue("renewed", days=10))
            await slots(client)
            assert server.connections == 2


@pytest.mark.parametrize(("days", "starts", "words"), [(-1.0, -10.0, "expired"), (10.0, 1.0, "not yet valid")])
async def test_a_server_certificate_out_of_time_points_to_the_clock(
    authority: Authority, days: float, starts: float, words: str
) -> None:
    """Its end is past, or its beginning is to come, as with a clock that is a day off: not trusted, and why."""
    async with (
        serving(authority, silence, days=days, starts=starts) as server,
        CentralServices(settings(authority, server.port)) as client,
    ):
        error = await failure(client.ping())
        assert isinstance(error, Untrusted)
        assert words in str(error)
        assert "check this machine's clock" in str(error)


RECORDED = recordings.answered("freeslots-ok")[4:]
LONG_TEXT = b"\x7c" + (1 << 30).to_bytes(8, "big") + b"x" * (1 << 16)


@pytest.mark.parametrize(
    ("bad", "error", "words"),
    [
        (RECORDED[:1000], Unreachable, "did not end a reply in 0.3 s"),
        (LONG_TEXT, Malformed, "a string longer than allowed"),
        (b"\x7a" + (1 << 21).to_bytes(4, "big"), Malformed, "more bytes in one object than allowed"),
        (b"\x73\x71\x00\x7e\x7f\xff", Malformed, "a handle that was never given"),
        (b"\x73\x71\x00\x00\x00\x00", Malformed, "a handle that was never given"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", Malformed, "type code 0x48 is not allowed here"),
        (b"\x70", Malformed, "with NoneType"),
    ],
    ids=["unended", "long text", "long block", "handle beyond", "handle below", "another protocol", "null"],
)
async def test_bytes_that_are_no_answer(authority: Authority, bad: bytes, error: type[NacreError], words: str) -> None:
    """Each is named, the connection is given up, and the next request has a new one and its right answer."""
    answers = recorded("session-25")
    served: list[int] = []

    async def reply(n: int) -> bytes | None:
        served.append(n)
        return bad if len(served) == 1 else await answers(n)

    async with (
        serving(authority, reply) as server,
        CentralServices(settings(authority, server.port, read_timeout_s=0.3)) as client,
    ):
        found = await failure(client.free_slots("h.d", CE))
        assert isinstance(found, error)
        assert words in str(found)
        assert kind(found) != "other"
        assert await slots(client) == 0
        assert server.connections == 2


async def test_an_endless_object_ends_at_its_bound(authority: Authority) -> None:
    """A server that never stops sending is cut off after a megabyte, not after memory or time."""
    block = b"\x77\xff" + b"y" * 255

    async def reply(n: int) -> bytes | None:
        # A map of the recording, and in it block data without end.
        head = RECORDED[: RECORDED.index(b"\x78\x70")]
        return head + block * 8000

    async with serving(authority, reply) as server, CentralServices(settings(authority, server.port)) as client:
        found = await failure(client.free_slots("h.d", CE))
        assert isinstance(found, Malformed)
        assert "more bytes in one object than allowed" in str(found)


async def test_half_a_reply_and_a_close_is_cut_off(authority: Authority) -> None:
    """It has its own name, apart from a close without any reply."""
    async with (
        serving(authority, hang_up, farewell=RECORDED[:500]) as server,
        CentralServices(settings(authority, server.port)) as client,
    ):
        found = await failure(client.free_slots("h.d", CE))
        assert isinstance(found, CutOff)
        assert kind(found) == "cut_off"

"""The client against replayed sessions with real central services, and against servers that fail in every known way."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import uvloop

from libs.alice.answers import FreeSlots, WaitingJobs
from libs.alice.client import CentralServices
from libs.alice.connection import Settings
from libs.runtime.errors import CredentialExpired, Malformed, Misconfigured, Refused, Unreachable
from tests.contract.alice.replay import (
    CE,
    Authority,
    Replay,
    alerting,
    failure,
    hang_up,
    recorded,
    serving,
    settings,
    silence,
)
from tests.unit.alice import recordings


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_session_of_25_requests_runs_on_one_connection(
    authority: Authority, loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """The recorded session with its two resets, asked for live through TLS, on both event loops."""

    async def session() -> None:
        async with (
            serving(authority, recorded("session-25")) as server,
            CentralServices(settings(authority, server.port)) as client,
        ):
            for _ in range(12):
                assert await client.free_slots("vobox.localdomain", CE) == FreeSlots(0, 100, 10)
                assert await client.waiting_jobs({"CE": CE}) == WaitingJobs(49, 1)
            token = await client.job_agent_token(2)
            assert b"JobAgent" in token.certificate_der
            assert server.connections == 1

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(session())


@pytest.mark.parametrize(
    ("name", "words"),
    [("token-denied", "You don't have permissions"), ("waiting-badce", "Index 2 out of bounds for length 1")],
)
async def test_a_server_exception_is_refused_with_its_root_message(authority: Authority, name: str, words: str) -> None:
    """What the server said goes into the error; the connection stays."""
    async with (
        serving(authority, recorded(name)) as server,
        CentralServices(settings(authority, server.port)) as client,
    ):
        with pytest.raises(Refused, match=words):
            await (client.job_agent_token(2) if "token" in name else client.waiting_jobs({"CE": "bogus"}))
        assert server.connections == 1


async def test_a_connection_lost_between_requests_is_opened_once_more(authority: Authority) -> None:
    """An idle connection that the server closed costs nothing; the second answer comes from a new one."""
    async with (
        serving(authority, recorded("freeslots-ok")) as server,
        CentralServices(settings(authority, server.port)) as client,
    ):
        for n in range(1, 4):
            assert (await client.free_slots("h.d", CE)).code == 0
            assert server.connections == n


async def test_a_server_that_closes_without_a_reply_is_named(authority: Authority) -> None:
    """It closes on what it cannot read; a new connection is not asked again."""
    async with serving(authority, hang_up) as server, CentralServices(settings(authority, server.port)) as client:
        error = await failure(client.free_slots("h.d", CE))
        assert isinstance(error, Unreachable)
        assert "without a reply" in str(error)
        assert len(server.requests) == 1


async def test_silence_after_the_header_points_to_the_account(authority: Authority) -> None:
    """An unknown DN gets a header and then nothing: the error names subject and account."""
    async with (
        serving(authority, silence) as server,
        CentralServices(settings(authority, server.port, read_timeout_s=0.2)) as client,
    ):
        error = await failure(client.ping())
        assert isinstance(error, Unreachable)
        assert "/C=ch/O=Test/CN=client the LDAP subject of account me?" in str(error)


async def test_silence_later_on_is_only_a_timeout(authority: Authority) -> None:
    """Who answered before knows us."""
    answers = recorded("session-25")

    async def first_only(n: int) -> bytes | None:
        return await (silence(n) if n else answers(n))

    async with (
        serving(authority, first_only) as server,
        CentralServices(settings(authority, server.port, read_timeout_s=0.3)) as client,
    ):
        assert (await client.free_slots("h.d", CE)).code == 0
        error = await failure(client.waiting_jobs({}))
        assert "did not answer in 0.3 s" in str(error)
        assert "account" not in str(error)


async def test_a_certificate_of_another_authority_is_refused_by_name(authority: Authority, tmp_path: Path) -> None:
    """The server's TLS alert becomes an error that names our certificate."""
    other = Authority(tmp_path, "other")
    with alerting(authority, other) as port:
        error = await failure(CentralServices(settings(authority, port)).ping())
    assert isinstance(error, Refused)
    assert "refused certificate" in str(error)
    assert "client.cert.pem" in str(error)


async def test_a_refusal_without_words_still_points_to_the_certificate(authority: Authority, tmp_path: Path) -> None:
    """A server that just closes after the handshake leaves one likely reason, and it is named."""
    async with (
        serving(authority, silence, clients=Authority(tmp_path, "other")) as server,
        CentralServices(settings(authority, server.port)) as client,
    ):
        error = await failure(client.ping())
        assert isinstance(error, Unreachable)
        assert "does not take the certificate of /C=ch/O=Test/CN=client" in str(error)


@pytest.mark.parametrize("case", ["other authority", "other name"])
async def test_a_server_that_is_not_who_it_should_be_is_not_spoken_to(
    authority: Authority, tmp_path: Path, case: str
) -> None:
    """Its certificate must come from our trust anchors and carry its name."""
    theirs = Authority(tmp_path, "theirs") if case == "other authority" else authority
    name = "localhost" if case == "other authority" else "elsewhere.example"
    async with (
        serving(theirs, recorded("freeslots-ok"), clients=authority, name=name) as server,
        CentralServices(settings(authority, server.port)) as client,
    ):
        error = await failure(client.free_slots("h.d", CE))
        assert isinstance(error, Misconfigured)
        assert "cannot be trusted" in str(error)
        assert server.requests == []


async def test_not_verifying_the_name_is_explicit_and_logged(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    """The opt-out works and says aloud what it gives up."""
    with caplog.at_level(logging.WARNING):
        async with (
            serving(authority, recorded("freeslots-ok"), name="elsewhere.example") as server,
            CentralServices(settings(authority, server.port, verify_name=False)) as client,
        ):
            assert (await client.free_slots("h.d", CE)).code == 0
    assert "NOT verified" in caplog.text


async def test_nobody_there_and_nothing_said(authority: Authority) -> None:
    """No listener, a name that does not resolve, a listener that is silent: unreachable, and which."""
    open_ends: list[asyncio.StreamWriter] = []
    silent = await asyncio.start_server(lambda _reader, writer: open_ends.append(writer), "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    error = await failure(CentralServices(settings(authority, port, connect_timeout_s=0.2)).ping())
    assert isinstance(error, Unreachable)
    assert "did not connect in 0.2 s" in str(error)
    open_ends.pop().close()
    silent.close()
    await silent.wait_closed()
    error = await failure(CentralServices(settings(authority, port)).ping())
    assert "127.0.0.1 refused the connection; are host and port right" in str(error)
    error = await failure(CentralServices(settings(authority, port, host="nowhere.invalid")).ping())
    assert isinstance(error, Unreachable)
    assert "nowhere.invalid has no address" in str(error)


async def test_what_is_no_object_stream_is_malformed(authority: Authority) -> None:
    """A server of another kind, an answer to another request, two answers: malformed, and never half a result."""
    async with (
        serving(authority, recorded("waiting-ok")) as server,
        CentralServices(settings(authority, server.port)) as client,
    ):
        assert "answered a alien.api.taskQueue.GetNumberFreeSlots" in str(await failure(client.free_slots("h.d", CE)))
        server.header = b"HTTP/1.1 400 Bad Request\r\n"
        assert isinstance(await failure(client.ping()), Malformed)
    session = recordings.answered("session-25")
    both = session[4 : recordings.notes("session-25")[1]["s2c"][1]]

    async def twice(n: int) -> bytes | None:
        return both

    async with serving(authority, twice) as server, CentralServices(settings(authority, server.port)) as client:
        assert "with 2 objects" in str(await failure(client.free_slots("h.d", CE)))


async def test_a_reply_cut_in_the_middle_is_lost(authority: Authority) -> None:
    """Half an object is no answer."""
    half = recordings.answered("freeslots-ok")[4:1000]
    states: list[Replay] = []

    async def cut(n: int) -> bytes | None:
        asyncio.get_running_loop().call_later(0.1, states[0].hang_up)
        return half

    async with serving(authority, cut) as server, CentralServices(settings(authority, server.port)) as client:
        states.append(server)
        assert "in the middle of a reply" in str(await failure(client.free_slots("h.d", CE)))


async def test_a_cancelled_request_leaves_no_late_reply_behind(authority: Authority) -> None:
    """After a cancellation the next request has a connection of its own."""
    answers = recorded("freeslots-ok")
    slow = asyncio.Event()

    async def late(n: int) -> bytes | None:
        if not slow.is_set():
            slow.set()
            await asyncio.sleep(0.3)
        return await answers(n)

    async with serving(authority, late) as server, CentralServices(settings(authority, server.port)) as client:
        task = asyncio.create_task(client.waiting_jobs({}))
        await slow.wait()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert (await client.free_slots("h.d", CE)).code == 0
        assert server.connections == 2


def files(found: Settings, **changes: Path) -> Settings:
    return replace(found, identity=replace(found.identity, **changes))


async def test_unusable_files_say_what_to_do(authority: Authority, tmp_path: Path) -> None:
    """Missing, empty or foreign files stop before anything is sent, each with its own words."""
    good = settings(authority, 1)
    other_key = authority.issue("other")[1]
    empty = tmp_path / "empty"
    empty.write_bytes(b"")
    cases = {
        "host certificate: .*/nowhere cannot be read": {"certificate": tmp_path / "nowhere"},
        "host certificate: .*/empty is empty": {"certificate": empty},
        "holds no PEM certificate": {"certificate": other_key},
        "host key: .*/nowhere cannot be read": {"key": tmp_path / "nowhere"},
        "does not fit host certificate": {"key": other_key},
        "trust anchors: .*/nowhere cannot be used": {"ca": tmp_path / "nowhere"},
    }
    for words, changes in cases.items():
        with pytest.raises(Misconfigured, match=words):
            CentralServices(files(good, **changes)).check_files()
    assert CentralServices(files(good, ca=tmp_path)).check_files().subject == "/C=ch/O=Test/CN=client"


async def test_an_expired_certificate_is_named_before_the_server_is_asked(authority: Authority) -> None:
    """Our own certificate's end is known without the server."""
    error = await failure(CentralServices(settings(authority, 1, days=-1)).ping())
    assert isinstance(error, CredentialExpired)
    assert "expired at" in str(error)


async def test_a_fresh_connection_now_and_then(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """Handles of a server that never resets do not gather for ever."""
    monkeypatch.setattr("libs.alice.client.REQUESTS_PER_CONNECTION", 2)
    async with (
        serving(authority, recorded("session-25")) as server,
        CentralServices(settings(authority, server.port)) as client,
    ):
        for _ in range(3):
            await client.free_slots("h.d", CE)
            await client.waiting_jobs({})
        assert server.connections == 3

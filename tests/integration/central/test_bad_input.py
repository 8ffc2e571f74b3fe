"""queue_poller against a server that replays real answers and, when told, sends what none should; and bad clocks."""

import asyncio
import contextlib
import logging
import os
import shutil
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from libs.bus.connection import Bus
from libs.events import subjects
from libs.events.messages import DemandObserved
from libs.runtime import clock
from libs.runtime.run import Context
from libs.runtime.site import CentralServices
from services.queue_poller import decide
from services.queue_poller.service import serve
from tests.contract.alice.replay import Authority, Replay, recorded, serving
from tests.integration.central.conftest import running, until
from tests.nats_server import NatsServer
from tests.unit.alice import recordings
from tests.unit.slurm_submitter.sites import a_site

POLL_S = 0.05
REPLY = recordings.answered("freeslots-ok")[4:]
INSIDE_A_MAP = REPLY[: REPLY.index(b"\x78\x70")]


@dataclass
class Outside:
    """The server, the poller's files, and every demand that was published; `bad` is sent once instead of an answer."""

    server: Replay
    authority: Authority
    table: CentralServices
    context: Context
    bad: bytes | None = None
    demands: list[DemandObserved] = field(default_factory=list)

    async def sees(self, holds: Callable[[DemandObserved], Any]) -> DemandObserved:
        """The first demand published from now on that has this property."""
        start = len(self.demands)
        await until(lambda: any(holds(one) for one in self.demands[start:]))
        return next(one for one in self.demands[start:] if holds(one))


@contextlib.asynccontextmanager
async def outside(folder: Path, nats: NatsServer, bus: Bus, *, days: float = 10) -> AsyncIterator[Outside]:
    """The poller at work for one CE, which has 49 grid jobs waiting whenever it is told the truth."""
    authority, answers, found = Authority(folder), recorded("session-25"), list[Outside]()

    async def reply(n: int) -> bytes | None:
        if found and (bad := found[0].bad) is not None:
            found[0].bad = None
            return bad
        return await answers(n)

    certificate, key = authority.issue("client", days=days)
    async with serving(authority, reply) as server:
        table = CentralServices(
            host="localhost",
            port=server.port,
            ca=authority.path,
            certificate=certificate,
            key=key,
            account="me",
            read_timeout_s=0.5,
            poll_interval_s=POLL_S,
            # Read once, at the start, where this server has no answer to it; polls go on without.
            site_config_interval_s=3600.0,
        )
        site = msgspec.structs.replace(a_site(), central_services=table)
        stop = asyncio.Event()
        async with running("queue_poller", serve, site, nats) as context:
            found.append(Outside(server, authority, table, context))
            recording = asyncio.create_task(record(found[0], bus, stop))
            try:
                yield found[0]
            finally:
                stop.set()
                await recording
        for one in found[0].demands:
            assert one.waiting in (None, 49), one


async def record(found: Outside, bus: Bus, stop: asyncio.Event) -> None:
    async for seen in bus.tap(stop):
        if seen.subject == subjects.DEMAND_OBSERVED.subject("cpu"):
            found.demands.append(msgspec.json.decode(seen.body, type=DemandObserved))


def known(one: DemandObserved) -> bool:
    return one.waiting == 49


BAD = {
    "no object": (b"HTTP/1.1 400 Bad Request\r\n\r\n", "type code 0x48"),
    "a handle never given": (b"\x73\x71\x00\x7e\x7f\xff", "a handle that was never given"),
    "a handle below the first": (b"\x73\x71\x00\x00\x00\x01", "a handle that was never given"),
    "an endless object": (INSIDE_A_MAP + (b"\x77\xff" + b"y" * 255) * 8000, "more bytes in one object than allowed"),
    "an endless string": (b"\x7c\x00\x00\x00\x01" + b"x" * (1 << 20), "a string longer than allowed"),
    "an object without its end": (REPLY[:1000], "did not end a reply in 0.5 s"),
    "another object": (b"\x74\x00\x02hi", "answered a alien.api.taskQueue"),
    "two answers": (recordings.answered("session-25")[4 : recordings.notes("session-25")[1]["s2c"][1]], "2 objects"),
}


async def test_what_no_server_should_send(
    tmp_path: Path, nats_server: NatsServer, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is one unknown demand with its reason, and the next poll has the right number again."""
    monkeypatch.setattr(decide, "MOST_BACK_OFF_S", POLL_S)
    async with outside(tmp_path, nats_server, bus) as found:
        await found.sees(known)
        for data, words in BAD.values():
            found.bad = data
            told = await found.sees(lambda one: bool(one.unknown_because))
            assert words in told.unknown_because
            assert told.unknown_kind in {"malformed", "unreachable"}
            await found.sees(known)
        found.server.header = b"HTTP"
        found.server.hang_up()
        assert "wrong header" in (await found.sees(lambda one: one.unknown_kind == "malformed")).unknown_because
        found.server.header = recordings.answered("session-25")[:4]
        await found.sees(known)
        await until(lambda: found.context.health.not_ready() == {})


async def test_a_host_certificate_that_ends_while_connected(
    tmp_path: Path, nats_server: NatsServer, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From its end on nothing is known, whatever the server would still answer; the renewed one goes on by itself."""
    async with outside(tmp_path, nats_server, bus, days=1) as found:
        await found.sees(known)
        ahead(monkeypatch, timedelta(days=1, hours=1))
        told = await found.sees(lambda one: one.unknown_kind == "certificate_expired")
        assert "expired at" in told.unknown_because
        asked = len(found.server.requests)
        await found.sees(lambda one: one.unknown_kind == "certificate_expired")
        assert len(found.server.requests) == asked
        for new, old in zip(found.authority.issue("renewed"), (found.table.certificate, found.table.key), strict=True):
            shutil.copy(new, tmp_path / "part")
            os.replace(tmp_path / "part", old)
        await found.sees(known)


def ahead(monkeypatch: pytest.MonkeyPatch, by: timedelta) -> None:
    """Sets the clock of all of this process."""
    monkeypatch.setattr(clock, "now", lambda: datetime.now(UTC) + by)


async def test_a_clock_that_is_a_day_off(
    tmp_path: Path, nats_server: NatsServer, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers stay right with a clock a day ahead or behind, and a follower takes the right instants up at once."""
    async with outside(tmp_path, nats_server, bus) as found, bus.latest(subjects.DEMAND_OBSERVED, "cpu") as latest:
        await found.sees(known)
        for off in (timedelta(days=1), timedelta(days=-1)):
            ahead(monkeypatch, off)
            await found.sees(near(off))
            monkeypatch.undo()
            await found.sees(near(timedelta()))
            await until(lambda: latest.value and near(timedelta())(latest.value))
        assert not any(one.unknown_because for one in found.demands)


def near(off: timedelta) -> Callable[[DemandObserved], bool]:
    """Whether a demand is known and of about now, by a clock that is so much ahead."""
    return lambda one: known(one) and abs(one.at - datetime.now(UTC) - off) < timedelta(hours=1)


async def test_names_that_are_not_found_for_an_hour(
    tmp_path: Path,
    nats_server: NatsServer,
    bus: Bus,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """On a clock 1,200 times as fast: asked about once a minute, each time unknown, said once; then it goes on."""
    monkeypatch.setattr(decide, "MOST_BACK_OFF_S", 30.0 / 1200)
    look_up, is_away = socket.getaddrinfo, [False]

    def failing(host: Any, *arguments: Any, **more: Any) -> Any:
        if is_away[0] and host == "localhost":
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return look_up(host, *arguments, **more)

    monkeypatch.setattr(socket, "getaddrinfo", failing)
    caplog.set_level(logging.INFO, "services.queue_poller")
    async with outside(tmp_path, nats_server, bus) as found:
        await found.sees(known)
        is_away[0] = True
        found.server.hang_up()
        caplog.clear()
        await found.sees(lambda one: "has no address" in one.unknown_because)
        begun = len(found.demands)
        await asyncio.sleep(3600 / 1200)
        during = found.demands[begun:]
        assert all(one.unknown_kind == "unreachable" and one.waiting is None for one in during)
        assert 10 < len(during) <= 75
        is_away[0] = False
        await found.sees(known)
        assert sum("has no address" in entry.getMessage() for entry in caplog.records) == 1

"""The three guarded nats-servers of deploy/spin, as they are configured there, on this machine."""

import asyncio
import socket
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from libs.bus import accounts, connection, permissions, schema
from libs.bus.login import Login
from libs.events import subjects
from libs.events.messages import Drain, Wish
from libs.runtime import clock
from libs.runtime.errors import Transient
from libs.runtime.health import Health
from tests.nats_server import program
from tests.world.processes import REPOSITORY

pytestmark = pytest.mark.timeout(90)
CONFIGURATION = REPOSITORY / "deploy" / "spin" / "base" / "nats.conf"
FIRST_MESSAGES_S = 20


def free_ports(count: int) -> list[int]:
    """Ports that nobody has now."""
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def configured(folder: Path, name: str, ports: list[int], routes: list[int]) -> Path:
    """Spin's configuration with this machine's names, ports and paths instead."""
    text = CONFIGURATION.read_text()
    for number, route in enumerate(routes):
        text = text.replace(f"nats-{number}.nats-cluster:6222", f"127.0.0.1:{route}")
    for wanted, port in zip(("port: 4222", "http_port: 8222", "port: 8443", "port: 6222"), ports, strict=True):
        text = text.replace(wanted, f"{wanted.partition(':')[0]}: {port}", 1)
    own = folder / name
    own.mkdir()
    text = text.replace("/tmp/nats.pid", f"{own}/nats.pid").replace("store_dir: /data", f'store_dir: "{own}/data"')
    text = text.replace("/etc/nats-config/server", str(folder / "server")).replace("$POD_NAME", name)
    (folder / f"{name}.conf").write_text(text)
    return folder / f"{name}.conf"


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[tuple[list[str], list[subprocess.Popen[bytes]], Path]]:
    """Three servers, their addresses, and the folder with keys."""
    accounts.make(tmp_path, ["127.0.0.1"], clock.now())
    routes = free_ports(3)
    urls, processes = [], []
    for number, route in enumerate(routes):
        ports = [*free_ports(3), route]
        urls.append(f"tls://127.0.0.1:{ports[0]}")
        path = configured(tmp_path, f"nats-{number}", ports, routes)
        processes.append(subprocess.Popen([program(), "-c", path], stderr=subprocess.DEVNULL))
    yield urls, processes, tmp_path
    for process in processes:
        process.kill()
        process.wait(10)


async def test_nothing_is_lost_with_one_server(
    servers: tuple[list[str], list[subprocess.Popen[bytes]], Path],
) -> None:
    """Streams have three copies; a record outlives the kill -9 of a server, and writing over it goes on."""
    urls, processes, folder = servers
    login = Login(nkey_file=folder / "users" / f"{permissions.ADMINISTRATOR}.nk", ca_file=folder / "users" / "ca.pem")
    async with connection.connected(urls[0], "administrator/1", Health(), login=login) as bus:
        deadline = clock.now() + timedelta(seconds=FIRST_MESSAGES_S)
        while True:
            try:
                changes = await schema.initialise(bus.js, 3)
                break
            except Transient:
                assert clock.now() < deadline, "the three servers never became one"
                await asyncio.sleep(0.2)
        assert len(changes) == len(subjects.STREAMS) + len(subjects.BUCKETS)
        bucket = bus.bucket(subjects.CONTROL_BUCKET)
        wish = Wish(author="op", reason="test", made_at=clock.now(), expires_at=None, what=Drain(ce="cpu"))
        revision = await bucket.write("drain.cpu", wish, 0)
    processes[0].kill()
    async with connection.connected(urls[1], "administrator/1", Health(), login=login) as bus:
        bucket = bus.bucket(subjects.CONTROL_BUCKET)
        deadline = clock.now() + timedelta(seconds=FIRST_MESSAGES_S)
        while True:
            try:
                await bucket.write("drain.cpu", wish, revision)
                break
            except Transient:
                assert clock.now() < deadline, "nothing could be written again"
                await asyncio.sleep(0.5)

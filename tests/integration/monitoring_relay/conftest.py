"""A relay and MonALISAs as processes, on the test's own nats-server."""

import asyncio
import contextlib
import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from libs.events import messages
from tests.nats_server import NatsServer

ROOT = Path(__file__).parents[3]
CE = "ALICE::Perlmutter::CPU"
SITE_FILE = """
[site]
name = "Perlmutter"
contact = "tests@example.org"
[central_services]
ca = "ca.pem"
certificate = "cert.pem"
key = "key.pem"
account = "tests"
[machine.perlmutter]
client_id_file = "id"
client_key_file = "key"
user = "tests"
[ce.cpu]
name = "{ce}"
host = "ce.example.org"
machine = "perlmutter"
batch = {{ account = "m1", qos = "regular", directory = "d", output = "o" }}
agent = {{ command = "agent", token_file = "token" }}
[monitoring]
listen = "127.0.0.1:{port}"
public_address = "127.0.0.1:{port}"
destinations = {destinations}
ring_bytes = {ring_bytes}
buffer_bytes = {buffer_bytes}
report_interval_s = {report_interval_s}
[credentials]
host_certificate_directory = "certs"
token_file = "token"
[bus]
url = "{nats_url}"
"""


def free_port(kind: socket.SocketKind) -> int:
    """A port that nobody uses just now."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def until(holds: Callable[[], bool], timeout_s: float = 30.0) -> None:
    """Wait until it holds."""
    async with asyncio.timeout(timeout_s):
        while not holds():
            await asyncio.sleep(0.05)


class MonAlisa:
    """A running tests.world.monalisa."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.world.monalisa", "--port", "0"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, text=True)
        assert self.process.stdout is not None
        ready = json.loads(self.process.stdout.readline())
        self.address = f"{ready['host']}:{ready['port']}"
        self.http = httpx.Client(base_url=ready["admin_url"], timeout=30, verify=False)

    @property
    def counts(self) -> dict[str, Any]:
        """GET /counts."""
        found: dict[str, Any] = self.http.get("/counts").json()
        return found

    def results(self) -> list[dict[str, Any]]:
        """All stored results."""
        found = self.http.get("/stored").json()
        assert (found["kernel_drops"], found["forgotten"]) == (0, 0)
        results: list[dict[str, Any]] = found["results"]
        return results

    def digests(self) -> Counter[str]:
        """How often each datagram was stored."""
        return Counter(result["sha256"] for result in self.results())

    def stop(self) -> None:
        self.http.close()
        self.process.terminate()
        self.process.communicate(timeout=20)


def digests(datagrams: list[bytes]) -> Counter[str]:
    """The same of what was sent."""
    return Counter(hashlib.sha256(datagram).hexdigest() for datagram in datagrams)


class Relay:
    """A relay on one UDP port; `start`, `kill` and `stop` keep site file and port."""

    def __init__(self, directory: Path, nats_url: str, destinations: list[str], **settings: float) -> None:
        self.port = free_port(socket.SOCK_DGRAM)
        self.http_port = free_port(socket.SOCK_STREAM)
        self._site_file = directory / "site.toml"
        self._log = directory / "relay.log"
        values = {"ring_bytes": 32 << 20, "buffer_bytes": 8 << 20, "report_interval_s": 3600.0} | settings
        self._site_file.write_text(
            SITE_FILE.format(ce=CE, port=self.port, destinations=json.dumps(destinations), nats_url=nats_url, **values)
        )
        self.process: subprocess.Popen[bytes] | None = None
        self._sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def launch(self) -> subprocess.Popen[bytes]:
        """Start the process without waiting."""
        environment = {name: text for name, text in os.environ.items() if not name.startswith("NACRE_")}
        environment["NACRE_HTTP_LISTEN"] = f"127.0.0.1:{self.http_port}"
        command = [sys.executable, "-m", "services.monitoring_relay", "--config", str(self._site_file)]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=log)
        return self.process

    async def start(self) -> None:
        """Start and wait until ready."""
        process = self.launch()
        await until(lambda: self.ready() or process.poll() is not None)
        assert process.poll() is None, self.log()

    def ready(self) -> bool:
        """GET /readyz says so."""
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"http://127.0.0.1:{self.http_port}/readyz", verify=False).status_code == 200
        return False

    def send(self, *datagrams: bytes) -> None:
        for datagram in datagrams:
            self._sender.sendto(datagram, ("127.0.0.1", self.port))

    def metrics(self) -> dict[str, float]:
        """The relay's metrics, `name` or `name:label value`, without prefix and _total."""
        text = httpx.get(f"http://127.0.0.1:{self.http_port}/metrics", verify=False).text
        found = {}
        for name, labels, value in re.findall(r"^nacre_relay_(\w+?)(?:_total)?(?:\{(.*?)\})? (\S+)$", text, re.M):
            label = re.search(r'(?:destination|reason)="(.*?)"', labels)
            found[f"{name}:{label[1]}" if label else name] = float(value)
        return found

    def resident_bytes(self) -> int:
        """Resident memory of the process."""
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) * 1024

    def log(self) -> str:
        """Everything it logged so far."""
        return self._log.read_text()

    def kill(self) -> None:
        """Kill -9."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM; gives the exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> int:
        if self.process is None:
            return 0
        self.process.send_signal(number)
        code = self.process.wait(30)
        self.process = None
        return code

    def close(self) -> None:
        self.kill()
        self._sender.close()


@pytest.fixture
def monalisa() -> Iterator[MonAlisa]:
    """A MonALISA."""
    service = MonAlisa()
    yield service
    service.stop()


@pytest.fixture
def relay_to(tmp_path: Path, nats_server: NatsServer) -> Iterator[Callable[..., Relay]]:
    """Makes relays to the given destinations; they end with the test."""
    made: list[Relay] = []

    def make(*destinations: MonAlisa | str, **settings: float) -> Relay:
        directory = tmp_path / f"relay{len(made)}"
        directory.mkdir()
        addresses = [one if isinstance(one, str) else one.address for one in destinations]
        made.append(Relay(directory, nats_server.url, addresses, **settings))
        return made[-1]

    yield make
    for relay in made:
        relay.close()


def queue(at: Any, queued: int | None, running: int | None, unknown_because: str = "") -> messages.BatchQueueObserved:
    """A listing of the CE's job agents."""
    return messages.BatchQueueObserved(
        at=at,
        by="tests/1",
        ce=CE,
        machine="perlmutter",
        listed_at=at,
        queued=queued,
        running=running,
        unaccounted=None if queued is None else 1,
        unknown_because=unknown_because,
    )

"""The central services of the world as a process, and a client that only knows bytes."""

import contextlib
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from tests.world.central_services.java_nodes import STREAM_HEADER, Array, Instance, Node
from tests.world.central_services.java_reader import StreamReader
from tests.world.central_services.java_writer import StreamWriter

ROOT = Path(__file__).parents[3]
VECTORS = ROOT / "tests" / "vectors" / "jalien"
ACCOUNT = "aliprod"


class Central:
    """One process with its state; `start` after `kill` continues on the same ports."""

    def __init__(self, state: Path, *options: str) -> None:
        self._state = state
        self._options = options
        self._ports = ["--port", "0"]
        self._process: subprocess.Popen[bytes] | None = None
        self.ready: dict[str, Any] = {}

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.world.central_services", "--state", str(self._state)]
        with (self._state.parent / "central.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, *self._ports, *self._options], cwd=ROOT, stdout=subprocess.PIPE, stderr=log
            )
        assert self._process.stdout is not None
        self.ready = json.loads(self._process.stdout.readline())
        ports = [urllib.parse.urlsplit(self.ready[name]).port for name in ("admin_url", "agent_url")]
        self._ports = ["--port", str(self.ready["port"]), "--admin-port", str(ports[0]), "--agent-port", str(ports[1])]

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Sends the signal; the exit code."""
        assert self._process is not None and self._process.stdout is not None
        self._process.send_signal(number)
        code = self._process.wait(10)
        assert self._process.stdout.read() == b""
        self._process.stdout.close()
        return code

    def log(self) -> str:
        return (self._state.parent / "central.log").read_text()

    def admin(self, method: str, path: str, body: object = None) -> Any:
        """The JSON answer of the admin port; fails on any status but 200."""
        status, answer = self.admin_status(method, path, json.dumps(body).encode() if body is not None else b"")
        assert status == 200, answer
        return answer

    def admin_status(self, method: str, path: str, body: bytes = b"") -> tuple[int, Any]:
        connection = http.client.HTTPConnection(self.ready["host"], _port(self.ready["admin_url"]), timeout=10)
        return _exchange(connection, method, path, body)

    def agent(self, path: str, body: dict[str, object], cert: Path, key: Path) -> tuple[int, Any]:
        """Status and JSON answer of the agent port."""
        context = ssl.create_default_context(cafile=self.ready["ca"])
        context.load_cert_chain(cert, key)
        port = _port(self.ready["agent_url"])
        connection = http.client.HTTPSConnection(self.ready["host"], port, timeout=10, context=context)
        return _exchange(connection, "POST", path, json.dumps(body).encode())

    def connect(self, identity: str = "") -> ssl.SSLSocket:
        """A TLS connection as `""` (vobox), `"ordinary_"` or `"unknown_"`."""
        context = ssl.create_default_context(cafile=self.ready["ca"])
        context.load_cert_chain(self.ready[f"{identity}cert"], self.ready[f"{identity}key"])
        plain = socket.create_connection((self.ready["host"], self.ready["port"]), 10)
        return context.wrap_socket(plain, server_hostname=self.ready["host"])

    def replies(self, client_bytes: bytes, count: int, identity: str = "") -> tuple[bytes, list[Instance]]:
        """Sends the bytes; the server's bytes, and its `count` replies (fewer when it closes before)."""
        reader, received, found = StreamReader(), b"", list[Node]()
        with self.connect(identity) as tls:
            tls.sendall(client_bytes)
            while len(found) < count and (data := tls.recv(65536)):
                received += data
                found += reader.feed(data)
            tls.settimeout(0.05)
            with contextlib.suppress(TimeoutError):
                received += tls.recv(65536)
        return received, [node for node in found if isinstance(node, Instance)]

    def token(self) -> tuple[bytes, bytes]:
        """A job agent's certificate and key as PEM, asked for as recorded but with this world's own certificate."""
        (request,) = StreamReader().feed(recorded("token-ok", "c2s"))
        assert isinstance(request, Instance)
        principal = request.fields["requester_euid"]
        assert isinstance(principal, Instance)
        der = x509.load_pem_x509_certificate(Path(self.ready["cert"]).read_bytes())
        chain = principal.fields["usercert"]
        assert isinstance(chain, Array) and isinstance(chain.items[0], Instance)
        held = chain.items[0].fields["data"]
        assert isinstance(held, Array)
        held.items = der.public_bytes(serialization.Encoding.DER)
        _, (reply,) = self.replies(STREAM_HEADER + StreamWriter().write(request), 1)
        certificate = x509.load_der_x509_certificate(inner_bytes(reply, "certificate", "data"))
        key = serialization.load_der_private_key(inner_bytes(reply, "privateKey", "encoded"), None)
        pkcs1 = serialization.PrivateFormat.TraditionalOpenSSL
        return (
            certificate.public_bytes(serialization.Encoding.PEM),
            key.private_bytes(serialization.Encoding.PEM, pkcs1, serialization.NoEncryption()),
        )


def recorded(name: str, direction: str) -> bytes:
    return (VECTORS / f"{name}.{direction}.bin").read_bytes()


def inner_bytes(reply: Instance, outer: str, inner: str) -> bytes:
    """The byte array `inner` of the object in field `outer`."""
    holder = reply.fields[outer]
    assert isinstance(holder, Instance)
    held = holder.fields[inner]
    assert isinstance(held, Array) and isinstance(held.items, bytes)
    return held.items


def _port(url: str) -> int:
    port = urllib.parse.urlsplit(url).port
    assert port is not None
    return port


def _exchange(connection: http.client.HTTPConnection, method: str, path: str, body: bytes) -> tuple[int, Any]:
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        data = answer.read()
    finally:
        connection.close()
    return answer.status, json.loads(data) if data else None


@pytest.fixture(scope="module")
def make_central(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Central]]:
    """Starts central services with a fresh state; all end with the module."""
    made: list[Central] = []

    def make(*options: str) -> Central:
        central = Central(tmp_path_factory.mktemp("central") / "state", *options)
        central.start()
        made.append(central)
        return central

    yield make
    for central in made:
        assert central.end() == 0
        assert "Traceback" not in central.log()


@pytest.fixture(scope="module")
def central(make_central: Callable[..., Central]) -> Central:
    """Central services set up as those that were recorded."""
    made = make_central("--ce", "firstce", "--ce", "lockedce", "--ce", "nolimits")
    made.admin("POST", "/grid_jobs", {"ce": "firstce", "count": 49})
    made.admin("POST", "/lock", {"ce": "ALICE::JTestSite::lockedce"})
    made.admin("POST", "/limits", {"ce": "nolimits", "max_jobs": None, "max_queued": None})
    return made


@pytest.fixture
def token_files(tmp_path: Path) -> Callable[[Central], tuple[Path, Path]]:
    """Writes a job agent's token; the paths of certificate and key."""

    def write(central: Central) -> tuple[Path, Path]:
        paths = tmp_path / "token.pem", tmp_path / "token.key"
        for path, data in zip(paths, central.token(), strict=True):
            path.write_bytes(data)
        return paths

    return write


class RunningAgent:
    """tests/world/job_agent.py as a process, with a UDP socket for its datagrams."""

    def __init__(self, central: Central, agent: str, token: tuple[Path, Path], ce: str = "", *options: str) -> None:
        self.receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.receiver.bind(("127.0.0.1", 0))
        environment = {
            "NACRE_AGENT": agent,
            "CE": ce or central.ready["ce"],
            "APMON_CONFIG": f"127.0.0.1:{self.receiver.getsockname()[1]}",
            "JALIEN_TOKEN_CERT": token[0].read_text(),
            "JALIEN_TOKEN_KEY": token[1].read_text(),
            "TTL": "600",
            "PATH": os.environ["PATH"],
        }
        script = str(ROOT / "tests" / "world" / "job_agent.py")
        where = ["--central", central.ready["agent_url"], "--ca", central.ready["ca"], "--retry-pause-s", "0.1"]
        self.process = subprocess.Popen([sys.executable, script, *where, *options], env=environment)

    def datagrams(self) -> list[bytes]:
        """What has arrived so far."""
        found = []
        self.receiver.setblocking(False)
        while True:
            try:
                found.append(self.receiver.recv(65536))
            except BlockingIOError:
                return found


@pytest.fixture
def run_agent() -> Iterator[Callable[..., RunningAgent]]:
    """Starts job agents; those still alive at the end are killed."""
    started: list[RunningAgent] = []

    def run(*arguments: Any) -> RunningAgent:
        started.append(RunningAgent(*arguments))
        return started[-1]

    yield run
    for one in started:
        one.process.kill()
        one.process.wait(10)
        one.receiver.close()


def eventually(holds: Callable[[], bool]) -> None:
    """Waits until it holds, 20 s at most."""
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline, "not in 20 s"
        time.sleep(0.02)

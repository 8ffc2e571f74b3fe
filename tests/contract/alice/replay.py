"""A TLS server that replays recorded replies, or misbehaves as told, and the certificates for both sides."""

import asyncio
import contextlib
import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from libs.alice.connection import Server, Settings
from libs.alice.identity import Identity
from libs.alice.reader import Reader
from libs.alice.writer import HEADER
from libs.runtime.errors import NacreError
from tests.unit.alice import recordings

CE = "ALICE::JTestSite::firstce"
NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


@dataclass
class Authority:
    """A certificate authority that writes PEM pairs into a directory."""

    directory: Path
    name: str = "ca"
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def __post_init__(self) -> None:
        self.subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)])
        made = (
            self._builder(self.subject, self.key.public_key(), NOW + 30 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self.key, hashes.SHA256())
        )
        self.path = self.directory / f"{self.name}.pem"
        self.path.write_bytes(made.public_bytes(serialization.Encoding.PEM))

    def _builder(
        self,
        subject: x509.Name,
        public: ec.EllipticCurvePublicKey,
        not_after: datetime.datetime,
        not_before: datetime.datetime = NOW - 10 * DAY,
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.subject)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(not_before)
            .not_valid_after(not_after)
        )

    def issue(self, name: str, days: float = 10, host: str = "localhost", starts: float = -10.0) -> tuple[Path, Path]:
        """Certificate and key files for `/C=ch/O=Test/CN=<name>`, valid from `starts` days from now on to `days`."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.COUNTRY_NAME, "ch"),
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Test"),
                x509.NameAttribute(NameOID.COMMON_NAME, name),
            ]
        )
        names = [x509.DNSName(host), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        made = (
            self._builder(subject, key.public_key(), NOW + days * DAY, NOW + starts * DAY)
            .add_extension(x509.SubjectAlternativeName(names if host == "localhost" else names[:1]), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        certificate_path, key_path = self.directory / f"{name}.cert.pem", self.directory / f"{name}.key.pem"
        certificate_path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        key_path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return certificate_path, key_path


Reply = Callable[[int], Awaitable[bytes | None]]
"""What follows the n-th request of a connection (from 0): bytes, or None to close."""


def recorded(name: str) -> Reply:
    """The replies of one recording, in order."""
    data, notes = recordings.answered(name), recordings.notes(name)

    async def reply(n: int) -> bytes | None:
        if n >= len(notes):
            return None
        start, end = notes[n]["s2c"]
        return data[start:end] or None

    return reply


async def silence(n: int) -> bytes | None:
    """No answer, and no close either."""
    await asyncio.sleep(30)
    return None


async def hang_up(n: int) -> bytes | None:
    """A close instead of an answer."""
    return None


async def failure(call: Awaitable[object]) -> NacreError:
    """The error that the call ends with."""
    with pytest.raises(NacreError) as caught:
        await call
    return caught.value


@dataclass
class Replay:
    """What the test may look at and change while the server runs."""

    port: int
    reply: Reply
    header: bytes = HEADER
    farewell: bytes = b""
    connections: int = 0
    requests: list[str] = field(default_factory=list)
    subjects: list[str] = field(default_factory=list)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
        self.subjects.append(dict(pair[0] for pair in writer.get_extra_info("peercert")["subject"])["commonName"])
        with contextlib.suppress(OSError):
            writer.write(self.header)
            await writer.drain()
            stream, n = Reader(), 0
            while data := await reader.read(4096):
                for request in stream.feed(data):
                    self.requests.append(getattr(request, "class_name", "?"))
                    answer = await self.reply(n)
                    n += 1
                    if answer is None:
                        writer.write(self.farewell)
                        return writer.close()
                    writer.write(answer)
                    await writer.drain()
        writer.close()

    def hang_up(self) -> None:
        """Close every connection."""
        for writer in self.writers:
            writer.close()
        self.writers.clear()


@contextlib.asynccontextmanager
async def serving(
    authority: Authority,
    reply: Reply,
    *,
    clients: Authority | None = None,
    name: str = "localhost",
    days: float = 10,
    starts: float = -10,
    farewell: bytes = b"",
) -> AsyncIterator[Replay]:
    """A server with a certificate for `name`, which takes clients of `clients` (default: the same authority).

    `farewell` is what it says before it closes.
    """
    certificate, key = authority.issue("server", days=days, host=name, starts=starts)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.load_verify_locations((clients or authority).path)
    context.verify_mode = ssl.CERT_REQUIRED
    state = Replay(0, reply, farewell=farewell)
    server = await asyncio.start_server(state.serve, "127.0.0.1", 0, ssl=context, ssl_shutdown_timeout=0.2)
    state.port = server.sockets[0].getsockname()[1]
    try:
        yield state
    finally:
        state.hang_up()
        server.close()
        await asyncio.sleep(0.05)


@contextlib.contextmanager
def alerting(authority: Authority, clients: Authority) -> Iterator[int]:
    """A server that takes one connection and refuses certificates as Java's does, with a TLS alert; gives its port.

    It runs in a thread because asyncio's own servers close without sending the alert.
    """
    certificate, key = authority.issue("server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(clients.path)
    context.verify_mode = ssl.CERT_REQUIRED
    listener = socket.create_server(("127.0.0.1", 0))

    def refuse() -> None:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            context.wrap_socket(connection, server_side=True).close()

    thread = threading.Thread(target=refuse)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        thread.join(10)
        listener.close()


def settings(
    authority: Authority, *ports: int, days: float = 10, host: str = "localhost", **changes: object
) -> Settings:
    """A client of that authority, of servers at these ports."""
    certificate, key = authority.issue("client", days=days)
    servers = tuple(Server(host, port) for port in ports)
    found = Settings(servers, Identity(certificate, key, authority.path), "me", read_timeout_s=5.0)
    return replace(found, **changes)  # type: ignore[arg-type]

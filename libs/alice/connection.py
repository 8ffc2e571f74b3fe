"""One TLS connection to the central services: the stream header first, then requests and replies in turn."""

import asyncio
import contextlib
import logging
import ssl
import uuid
from dataclasses import dataclass

from libs.alice import peer
from libs.alice.dial import dial
from libs.alice.failures import CertificateRefused, ClosedWithoutReply, CutOff, Lost, UnknownSubject, Untrusted
from libs.alice.identity import Identity, Loaded
from libs.alice.limits import MalformedStream
from libs.alice.nodes import MAGIC, TopLevel
from libs.alice.reader import Reader
from libs.alice.requests import Principal, Request, RequestEncoder
from libs.runtime import clock
from libs.runtime.errors import CredentialExpired, Malformed, NacreError, Unreachable
from libs.runtime.site import CentralServices

READ_BYTES = 1 << 16
CLOSE_S = 2.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Server:
    """One server of the central services."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Settings:
    """Where the central services are, at least one server, and as whom we come. Times in seconds."""

    servers: tuple[Server, ...]
    identity: Identity
    account: str
    verify_name: bool = True
    connect_timeout_s: float = 10.0
    read_timeout_s: float = 60.0

    @classmethod
    def of(cls, table: CentralServices) -> "Settings":
        """What the site file says."""
        others = (other.rpartition(":")[::2] for other in table.others)
        return cls(
            servers=(Server(table.host, table.port), *(Server(host.strip("[]"), int(port)) for host, port in others)),
            identity=Identity(certificate=table.certificate, key=table.key, ca=table.ca),
            account=table.account,
            verify_name=table.verify_name,
            read_timeout_s=table.read_timeout_s,
        )


class Connection:
    """An open connection. After any error from `exchange` only `close` may follow."""

    def __init__(
        self,
        settings: Settings,
        server: Server,
        loaded: Loaded,
        vm_uuid: uuid.UUID,
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self.exchanges = 0
        self.opened_s = clock.monotonic_s()
        self.server = server
        self.loaded = loaded
        self._settings = settings
        self._place = f"central services at {server}"
        self._incoming, self._outgoing = streams
        self._reader = Reader()
        self._encoder = RequestEncoder(Principal(settings.account, loaded.certificates_der), vm_uuid)

    @classmethod
    async def open(cls, settings: Settings, server: Server, loaded: Loaded, vm_uuid: uuid.UUID) -> "Connection":
        """Connect, shake hands, and exchange stream headers."""
        place = f"central services at {server}"
        try:
            async with asyncio.timeout(settings.connect_timeout_s), contextlib.AsyncExitStack() as undo:
                connected = await dial(server.host, server.port)
                undo.callback(connected.close)
                streams = await asyncio.open_connection(
                    sock=connected,
                    ssl=loaded.context,
                    server_hostname=server.host,
                    ssl_shutdown_timeout=CLOSE_S,
                )
                undo.pop_all()
        except TimeoutError as error:
            raise Unreachable(f"{place} did not connect in {settings.connect_timeout_s:g} s") from error
        except Unreachable as error:
            raise Unreachable(f"{place}: {error}; are host and port right, does it run?") from error
        except OSError as error:
            raise _named(error, place, settings, loaded) from error
        made = cls(settings, server, loaded, vm_uuid, streams)
        async with contextlib.AsyncExitStack() as undo:
            undo.push_async_callback(made.close)
            await made._headers()
            undo.pop_all()
        return made

    @property
    def peer(self) -> peer.Peer | None:
        """Who answers, None when it showed no certificate."""
        return peer.of(self._outgoing)

    @property
    def resets(self) -> int:
        """How often the server forgot what it had sent, and so let the table of handles begin anew."""
        return self._reader.resets

    async def exchange(self, request: Request, request_id: int) -> TopLevel:
        """Send the request, wait for its reply and give it unchecked."""
        settings = self._settings
        if self.loaded.not_after <= clock.now():
            raise expired(self.loaded, settings.identity)
        try:
            async with asyncio.timeout(settings.read_timeout_s):
                self._outgoing.write(self._encoder.encode(request, request_id))
                await self._outgoing.drain()
                while not (found := await self._objects()):
                    pass
        except TimeoutError as error:
            raise self._silence() from error
        except OSError as error:
            raise _named(error, self._place, settings, self.loaded) from error
        if len(found) > 1:
            raise Malformed(f"{self._place} answered one request with {len(found)} objects")
        self.exchanges += 1
        return found[0]

    async def close(self) -> None:
        """Close in good order, or after a moment in any."""
        self._outgoing.close()
        try:
            async with asyncio.timeout(2 * CLOSE_S):
                await self._outgoing.wait_closed()
        except OSError:
            log.debug("the connection was already broken when it was closed")
        finally:
            self._outgoing.transport.abort()

    async def _headers(self) -> None:
        settings = self._settings
        try:
            async with asyncio.timeout(settings.connect_timeout_s):
                while self._reader.offset < len(MAGIC):
                    await self._objects()
                self._outgoing.write(self._encoder.header)
                await self._outgoing.drain()
        except TimeoutError as error:
            raise Unreachable(f"{self._place} sent no stream header in {settings.connect_timeout_s:g} s") from error
        except OSError as error:
            raise _named(error, self._place, settings, self.loaded) from error

    async def _objects(self) -> list[TopLevel]:
        """What the next bytes complete."""
        data = await self._read()
        try:
            return self._reader.feed(data)
        except MalformedStream as error:
            raise Malformed(f"{self._place} sent what cannot be read: {error}") from error

    async def _read(self) -> bytes:
        data = await self._incoming.read(READ_BYTES)
        if data:
            return data
        if self._reader.offset < len(MAGIC):
            raise Lost(
                f"{self._place} closed the connection before the stream header, "
                f"as a server may that does not take the certificate of {self.loaded.subject}"
            )
        if self._reader.is_mid_object:
            raise CutOff(f"{self._place} closed the connection in the middle of a reply")
        raise ClosedWithoutReply(
            f"{self._place} closed the connection without a reply, as they do when they stop or cannot read a request"
        )

    def _silence(self) -> Unreachable:
        text = f"{self._place} did not answer in {self._settings.read_timeout_s:g} s"
        if self._reader.is_mid_object:
            return Unreachable(f"{self._place} did not end a reply in {self._settings.read_timeout_s:g} s")
        if self.exchanges:
            return Unreachable(text)
        return UnknownSubject(
            f"{text}; they are silent towards a certificate that belongs to no account: "
            f"is {self.loaded.subject} the LDAP subject of account {self._settings.account}?"
        )


def expired(loaded: Loaded, identity: Identity) -> CredentialExpired:
    """Our own certificate is past its end."""
    end = f"{loaded.not_after:%Y-%m-%d %H:%M} UTC"
    return CredentialExpired(f"host certificate {identity.certificate} expired at {end} by this machine's clock")


def _named(error: OSError, place: str, settings: Settings, loaded: Loaded) -> NacreError:
    """What a failure of the socket or of TLS means, and what to do."""
    identity = settings.identity
    if isinstance(error, ssl.SSLCertVerificationError):
        words = error.verify_message or "certificate verification failed"
        hint = "check this machine's clock" if "not yet valid" in words or "expired" in words else "check the host name"
        return Untrusted(f"{place} cannot be trusted: {words}; {hint} and the trust anchors in {identity.ca}")
    reason = (getattr(error, "reason", None) or "") if isinstance(error, ssl.SSLError) else ""
    if "ALERT" in reason:
        words = reason.lower().replace("_", " ")
        text = f"{place} refused certificate {identity.certificate} ({loaded.subject}): {words}"
        return CredentialExpired(text) if "expired" in words else CertificateRefused(text)
    if isinstance(error, ConnectionError):
        return Lost(f"{place} broke the connection")
    return Unreachable(f"{place} cannot be reached: {reason or error.strerror or type(error).__name__}")

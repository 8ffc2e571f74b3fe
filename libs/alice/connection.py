"""One TLS connection to the central services: the stream header first, then requests and replies in turn."""

import asyncio
import contextlib
import logging
import ssl
import uuid
from dataclasses import dataclass

from libs.alice import identity, peer
from libs.alice.identity import Identity, Loaded
from libs.alice.nodes import MAGIC, TopLevel
from libs.alice.reader import Reader
from libs.alice.requests import Principal, Request, RequestEncoder
from libs.runtime import clock
from libs.runtime.errors import CredentialExpired, Malformed, Misconfigured, NacreError, Refused, Unreachable
from libs.runtime.site import CentralServices

READ_BYTES = 1 << 16
CLOSE_S = 2.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """Where the central services are and as whom we come. Times in seconds."""

    host: str
    port: int
    identity: Identity
    account: str
    verify_name: bool = True
    connect_timeout_s: float = 10.0
    read_timeout_s: float = 60.0

    @classmethod
    def of(cls, table: CentralServices) -> "Settings":
        """What the site file says."""
        return cls(
            host=table.host,
            port=table.port,
            identity=Identity(certificate=table.certificate, key=table.key, ca=table.ca),
            account=table.account,
            verify_name=table.verify_name,
            read_timeout_s=table.read_timeout_s,
        )

    @property
    def place(self) -> str:
        """How the central services are called in messages."""
        return f"central services at {self.host}:{self.port}"


class Lost(Unreachable):
    """The other side closed or broke the connection before its reply."""


class Connection:
    """An open connection. After any error from `exchange` only `close` may follow."""

    def __init__(
        self,
        settings: Settings,
        loaded: Loaded,
        vm_uuid: uuid.UUID,
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self.exchanges = 0
        self._settings = settings
        self._loaded = loaded
        self._incoming, self._outgoing = streams
        self._reader = Reader()
        self._encoder = RequestEncoder(Principal(settings.account, loaded.certificates_der), vm_uuid)

    @classmethod
    async def open(cls, settings: Settings, vm_uuid: uuid.UUID) -> "Connection":
        """Connect, shake hands, and exchange stream headers."""
        loaded = identity.load(settings.identity, verify_name=settings.verify_name)
        if loaded.not_after <= clock.now():
            raise CredentialExpired(
                f"host certificate {settings.identity.certificate} expired at {loaded.not_after:%Y-%m-%d %H:%M} UTC"
            )
        try:
            async with asyncio.timeout(settings.connect_timeout_s):
                streams = await asyncio.open_connection(
                    settings.host,
                    settings.port,
                    ssl=loaded.context,
                    server_hostname=settings.host,
                    ssl_shutdown_timeout=CLOSE_S,
                )
        except TimeoutError as error:
            raise Unreachable(f"{settings.place} did not connect in {settings.connect_timeout_s:g} s") from error
        except OSError as error:
            raise _named(error, settings, loaded) from error
        made = cls(settings, loaded, vm_uuid, streams)
        async with contextlib.AsyncExitStack() as undo:
            undo.push_async_callback(made.close)
            await made._headers()
            undo.pop_all()
        return made

    @property
    def peer(self) -> peer.Peer | None:
        """Who answers, None when it showed no certificate."""
        return peer.of(self._outgoing)

    async def exchange(self, request: Request, request_id: int) -> TopLevel:
        """Send the request, wait for its reply and give it unchecked."""
        settings = self._settings
        try:
            async with asyncio.timeout(settings.read_timeout_s):
                self._outgoing.write(self._encoder.encode(request, request_id))
                await self._outgoing.drain()
                while not (found := self._reader.feed(await self._read())):
                    pass
        except TimeoutError as error:
            raise Unreachable(self._silence()) from error
        except OSError as error:
            raise _named(error, settings, self._loaded) from error
        if len(found) > 1:
            raise Malformed(f"{settings.place} answered one request with {len(found)} objects")
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
                    self._reader.feed(await self._read())
                self._outgoing.write(self._encoder.header)
                await self._outgoing.drain()
        except TimeoutError as error:
            raise Unreachable(f"{settings.place} sent no stream header in {settings.connect_timeout_s:g} s") from error
        except OSError as error:
            raise _named(error, settings, self._loaded) from error

    async def _read(self) -> bytes:
        data = await self._incoming.read(READ_BYTES)
        if data:
            return data
        if self._reader.offset < len(MAGIC):
            raise Lost(
                f"{self._settings.place} closed the connection before the stream header, "
                f"as a server may that does not take the certificate of {self._loaded.subject}"
            )
        if self._reader.is_mid_object:
            raise Lost(f"{self._settings.place} closed the connection in the middle of a reply")
        raise Lost(
            f"{self._settings.place} closed the connection without a reply, as they do when they stop "
            "or cannot read a request"
        )

    def _silence(self) -> str:
        text = f"{self._settings.place} did not answer in {self._settings.read_timeout_s:g} s"
        if self.exchanges:
            return text
        return (
            f"{text}; they are silent towards a certificate that belongs to no account: "
            f"is {self._loaded.subject} the LDAP subject of account {self._settings.account}?"
        )


def _named(error: OSError, settings: Settings, loaded: Loaded) -> NacreError:
    """What a failure of the socket or of TLS means, and what to do."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return Misconfigured(
            f"{settings.place} cannot be trusted: {error.verify_message or 'certificate verification failed'}; "
            f"check the host name and the trust anchors in {settings.identity.ca}"
        )
    reason = (getattr(error, "reason", None) or "") if isinstance(error, ssl.SSLError) else ""
    if "ALERT" in reason:
        words = reason.lower().replace("_", " ")
        text = f"{settings.place} refused certificate {settings.identity.certificate} ({loaded.subject}): {words}"
        return CredentialExpired(text) if "expired" in words else Refused(text)
    if isinstance(error, ConnectionRefusedError):
        return Unreachable(f"{settings.place} refused the connection: is the host and port right, does it run?")
    if isinstance(error, ConnectionError):
        return Lost(f"{settings.place} broke the connection")
    return Unreachable(f"{settings.place} cannot be reached: {reason or error.strerror or type(error).__name__}")

"""The port of central services: Java serialization over mutual TLS, one request after the other per connection."""

import asyncio
import contextlib
import logging
import ssl
from asyncio.sslproto import SSLProtocol

from cryptography import x509

from tests.world.central_services.directory import Directory, slash_dn
from tests.world.central_services.java_classes import is_known, settle
from tests.world.central_services.java_nodes import STREAM_HEADER, StreamFault
from tests.world.central_services.java_reader import StreamReader
from tests.world.central_services.java_writer import StreamWriter
from tests.world.central_services.pki import Identity
from tests.world.central_services.requests import Hangup, Peer, Requests

_LOG = logging.getLogger("central_services.wire")
_IDLE_S = 900
_HANDSHAKE_S = 10
_READ_BYTES = 65536

RESET_EVERY = {"2022": 10, "2024": 0}


def tls_context(server: Identity, authority: Identity) -> ssl.SSLContext:
    """Server-side TLS 1.2 or newer that demands a client certificate of this authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server.cert_path, server.key_path)
    context.load_verify_locations(authority.cert_path)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def send_alerts() -> None:
    """Makes asyncio tell a client why its handshake failed, as real servers do; it would only close the connection."""
    finish = SSLProtocol._on_handshake_complete

    def tell_and_finish(self: SSLProtocol, handshake_exc: BaseException | None) -> None:
        if handshake_exc is not None:
            self._process_outgoing()  # type: ignore[attr-defined]
        finish(self, handshake_exc)

    SSLProtocol._on_handshake_complete = tell_and_finish  # type: ignore[method-assign]


class WireServer:
    """Serves connections; `reset_every` replies the server forgets its handles (0: never)."""

    def __init__(self, requests: Requests, directory: Directory, *, reset_every: int) -> None:
        self._requests = requests
        self._directory = directory
        self._reset_every = reset_every
        self._conversations: set[asyncio.Task[None]] = set()

    async def start(self, host: str, port: int, context: ssl.SSLContext) -> asyncio.Server:
        return await asyncio.start_server(
            self._converse, host, port, ssl=context, ssl_handshake_timeout=_HANDSHAKE_S, ssl_shutdown_timeout=1
        )

    async def stop(self) -> None:
        """Ends all conversations where they stand."""
        for conversation in self._conversations:
            conversation.cancel()
        await asyncio.gather(*self._conversations, return_exceptions=True)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        current = asyncio.current_task()
        if current is not None:
            self._conversations.add(current)
        try:
            await self._serve(reader, writer)
        except (Hangup, StreamFault, RecursionError) as reason:
            _LOG.warning("closing without a reply: %s", reason)
        except (OSError, TimeoutError) as error:
            _LOG.info("connection ended: %s", type(error).__name__)
        except asyncio.CancelledError:
            # The streams module would report a cancelled handler as a crash; only `stop` cancels.
            _LOG.info("connection ended: stopping")
        finally:
            self._conversations.discard(current) if current else None
            writer.close()
            with contextlib.suppress(OSError, TimeoutError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tls: ssl.SSLObject = writer.get_extra_info("ssl_object")
        certificate = x509.load_der_x509_certificate(tls.getpeercert(binary_form=True) or b"")
        writer.write(STREAM_HEADER)
        await writer.drain()
        dn = slash_dn(certificate)
        account = self._directory.account_of(dn)
        if account is None:
            _LOG.warning("no account for %s: silence", dn)
            while await reader.read(_READ_BYTES):
                pass
            return
        peer = Peer(account, certificate)
        incoming, outgoing = StreamReader(is_known, settle), StreamWriter()
        replies = 0
        while data := await asyncio.wait_for(reader.read(_READ_BYTES), _IDLE_S):
            for node in incoming.feed(data):
                reply = await self._requests.answer(node, peer)
                if reply is None:
                    _LOG.warning("ignoring an object that is no request")
                    continue
                out = outgoing.write(reply)
                replies += 1
                if self._reset_every and replies % self._reset_every == 0:
                    out += outgoing.reset()
                writer.write(out)
                await writer.drain()

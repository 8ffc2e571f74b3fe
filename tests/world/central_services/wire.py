"""The port of central services: Java serialization over mutual TLS, one request after the other per connection."""

import asyncio
import contextlib
import datetime as dt
import logging
import ssl
from asyncio.sslproto import SSLProtocol

from cryptography import x509

from tests.world.central_services.directory import Directory, slash_dn
from tests.world.central_services.faults import Fault, Faults, Log
from tests.world.central_services.java_classes import settle
from tests.world.central_services.java_nodes import STREAM_HEADER, Instance, Node, StreamFault
from tests.world.central_services.java_reader import StreamReader
from tests.world.central_services.java_writer import StreamWriter
from tests.world.central_services.peer import Hangup, Peer
from tests.world.central_services.pki import Identity
from tests.world.central_services.requests import Requests, described, is_request

_LOG = logging.getLogger("central_services.wire")
_IDLE_S = 900
_HANDSHAKE_S = 10
_READ_BYTES = 65536


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

    def __init__(self, requests: Requests, directory: Directory, faults: Faults, log: Log, *, reset_every: int) -> None:
        self._requests = requests
        self._directory = directory
        self._faults = faults
        self._log = log
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
        except Hangup as reason:
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
            self._tell(dn, None, "silence: no account has this subject")
            await _be_silent(reader)
            return
        conversation = Conversation(Peer(account, dn, certificate), writer, self._reset_every)
        incoming = StreamReader(self._requests.knows, settle)
        while data := await asyncio.wait_for(reader.read(_READ_BYTES), _IDLE_S):
            try:
                nodes = incoming.feed(data)
            except (StreamFault, RecursionError) as reason:
                self._tell(dn, None, f"closed: {reason}")
                raise Hangup(str(reason)) from reason
            for node in nodes:
                if not await self._reply(node, conversation):
                    await _be_silent(reader)
                    return

    async def _reply(self, node: Node, conversation: "Conversation") -> bool:
        """Answers one object, or does what a fault wants instead; False when there is to be silence from now on."""
        peer = conversation.peer
        if not isinstance(node, Instance) or not is_request(node):
            self._tell(peer.dn, None, "ignored: no request")
            return True
        name = node.desc.name.rpartition(".")[2]
        fault = self._faults.take(name)
        kind = fault.kind if fault else None
        if fault is not None and fault.delay_s:
            await asyncio.sleep(fault.delay_s)
        if kind == "silence":
            self._tell(peer.dn, name, "silence", fault)
            return False
        if kind == "close_without_reply":
            self._tell(peer.dn, name, "closed", fault)
            raise Hangup("a fault")
        try:
            reply = await self._requests.answer(node, peer, fault)
        except (Hangup, StreamFault, RecursionError) as reason:
            self._tell(peer.dn, name, f"closed: {reason}", fault)
            raise Hangup(str(reason)) from reason
        if reply is None:
            return True
        self._tell(peer.dn, name, "closed" if kind == "close_mid_object" else described(reply), fault)
        if kind == "close_mid_object":
            await conversation.send_half(reply)
            raise Hangup("a fault")
        await conversation.send(reply)
        return True

    def _tell(self, dn: str, request: str | None, result: str, fault: Fault | None = None) -> None:
        _LOG.info("%s %s: %s", dn, request, result)
        self._log.add(dt.datetime.now(dt.UTC).isoformat(), dn, request, result, fault.kind if fault else None)


class Conversation:
    """The server's side of one connection: one stream of objects, its handles forgotten in the release's rhythm."""

    def __init__(self, peer: Peer, writer: asyncio.StreamWriter, reset_every: int) -> None:
        self.peer = peer
        self._writer = writer
        self._outgoing = StreamWriter()
        self._reset_every = reset_every
        self._replies = 0

    async def send(self, reply: Instance) -> None:
        """Sends a reply, and in the same breath the reset that is due."""
        out = self._outgoing.write(reply)
        self._replies += 1
        if self._reset_every and self._replies % self._reset_every == 0:
            out += self._outgoing.reset()
        self._writer.write(out)
        await self._writer.drain()

    async def send_half(self, reply: Instance) -> None:
        """Sends the first half of a reply's bytes."""
        out = self._outgoing.write(reply)
        self._writer.write(out[: len(out) // 2])
        await self._writer.drain()


async def _be_silent(reader: asyncio.StreamReader) -> None:
    while await reader.read(_READ_BYTES):
        pass

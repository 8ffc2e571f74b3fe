"""UDP in: datagrams are read, judged, and gathered into batches; batches are published until NATS has them."""

import asyncio
import contextlib
import logging
import socket
import struct
from collections.abc import AsyncIterator
from typing import Any

from libs.apmon import batches, datagram
from libs.bus import schema
from libs.bus.connection import Bus
from libs.events import subjects
from libs.runtime import clock
from libs.runtime.errors import Misconfigured, Transient
from services.monitoring_relay import ring as rings
from services.monitoring_relay.reports import Counts

MAX_BATCH_DATAGRAMS = 64
MAX_BATCH_BYTES = 256 << 10  # NATS takes 1 MiB in one message
MAX_BATCH_AGE_S = 0.010
TRY_AGAIN_S = 0.5
DROPPED_RING_FULL = "ring_full"

_SO_MEMINFO = 55  # include/uapi/asm-generic/socket.h of Linux
_MEMINFO = struct.Struct("@9I")  # include/uapi/linux/sock_diag.h: first SK_MEMINFO_RMEM_ALLOC, last SK_MEMINFO_DROPS
_LOGGED_REFUSALS = 20

log = logging.getLogger(__name__)


class Receiver(asyncio.DatagramProtocol):
    """Every datagram is counted; those that can be read go into the ring in batches of 64 datagrams or 10 ms."""

    def __init__(self, ring: rings.Ring, counts: Counts, sock: socket.socket) -> None:
        self.filled = asyncio.Event()  # wakes the publisher
        self._ring = ring
        self._counts = counts
        self._sock = sock
        self._batch: list[batches.Received] = []
        self._batch_bytes = 0
        self._flush_due: asyncio.TimerHandle | None = None
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The port is open."""
        self._transport = transport

    def close(self) -> None:
        """Close the port and hand over what was received."""
        if self._transport is not None:
            self._transport.close()
        self.flush()

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        """Count and keep one datagram, unless nothing at all can be read in it."""
        self._counts.received += 1
        found = datagram.decode(data)
        if not found.ok:
            if not found.salvaged:
                self._refuse(data, addr, found)
                return
            self._counts.salvaged += 1
        at_ns = int(clock.now().timestamp() * 1e6) * 1000
        self._batch.append(batches.Received(at_ns, batches.packed_address(addr[0]), addr[1], data))
        self._batch_bytes += batches.ITEM_BYTES + len(data)
        if len(self._batch) >= MAX_BATCH_DATAGRAMS or self._batch_bytes >= MAX_BATCH_BYTES:
            self.flush()
        elif self._flush_due is None:
            self._flush_due = asyncio.get_running_loop().call_later(MAX_BATCH_AGE_S, self.flush)

    def flush(self) -> None:
        """Hand the batch under way to the ring."""
        if self._flush_due is not None:
            self._flush_due.cancel()
            self._flush_due = None
        if self._batch:
            lost = self._ring.add(batches.encode(self._batch), len(self._batch))
            if lost:
                self._counts.dropped[DROPPED_RING_FULL] += lost
            self._batch.clear()
            self._batch_bytes = 0
            self.filled.set()

    def unread_bytes(self) -> int:
        """What the kernel holds for us, 0 once the port is closed."""
        return self._kernel_numbers()[0]

    def count_kernel_drops(self) -> None:
        """Bring the count of datagrams that found the socket's buffer full up to date."""
        drops = self._kernel_numbers()[-1]
        if drops > self._counts.kernel_drops:
            log.warning("the kernel dropped %d datagrams: the buffer was full", drops - self._counts.kernel_drops)
            self._counts.kernel_drops = drops

    def _kernel_numbers(self) -> tuple[int, ...]:
        if self._sock.fileno() < 0:
            return (0,) * 9
        return _MEMINFO.unpack(self._sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size))

    def _refuse(self, data: bytes, addr: tuple[Any, ...], found: datagram.Datagram) -> None:
        self._counts.refused += 1
        if self._counts.refused <= _LOGGED_REFUSALS:
            last = "; further ones are only counted" if self._counts.refused == _LOGGED_REFUSALS else ""
            log.warning("refused %d bytes from %s:%d: %s%s", len(data), addr[0], addr[1], found.error, last)


@contextlib.asynccontextmanager
async def receiving(listen: str, buffer_bytes: int, ring: rings.Ring, counts: Counts) -> AsyncIterator[Receiver]:
    """Receive on `host:port` until left or closed. Misconfigured when the port cannot be had."""
    sock = _bound(listen, buffer_bytes)
    _, receiver = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: Receiver(ring, counts, sock), sock=sock
    )
    log.info("receiving ApMon on UDP %s:%d", *sock.getsockname()[:2])
    try:
        yield receiver
    finally:
        receiver.close()


def _bound(listen: str, buffer_bytes: int) -> socket.socket:
    host, _, port = listen.rpartition(":")
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
    granted_bytes = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2  # the kernel doubles it for its own needs
    if granted_bytes < buffer_bytes:
        log.warning(
            "the kernel gives the UDP socket a buffer of %d bytes instead of %d: bursts may be lost; "
            "raise net.core.rmem_max",
            granted_bytes,
            buffer_bytes,
        )
    try:
        sock.bind((host.strip("[]"), int(port)))
    except (OSError, OverflowError) as error:
        sock.close()
        raise Misconfigured(f"monitoring.listen: UDP {listen} cannot be had: {error}; is another relay up?") from error
    return sock


class Publisher:
    """Moves batches from the ring to NATS, oldest first, one at a time; nothing leaves the ring unconfirmed."""

    def __init__(self, bus: Bus, relay: str, replicas: int, ring: rings.Ring, counts: Counts) -> None:
        self._bus = bus
        self._relay = relay
        self._replicas = replicas
        self._ring = ring
        self._counts = counts
        self._in_doubt = asyncio.Event()
        self._in_doubt.set()
        bus.reconnected.add(self._in_doubt)

    async def step(self) -> None:
        """Publish all that waits. While NATS is away nothing happens; later all that was not forwarded goes again."""
        try:
            if self._in_doubt.is_set() and self._bus.is_connected:
                # Another process may answer now: what lived in memory is gone, the stream and all that was in it.
                await schema.restore_memory_streams(self._bus.js, self._replicas)
                self._ring.distrust()
                self._in_doubt.clear()
            while self._bus.is_connected and (batch := self._ring.take()) is not None:
                await self._publish(batch)
        except Transient:
            self._in_doubt.set()
            await asyncio.sleep(TRY_AGAIN_S)
            raise

    async def _publish(self, batch: rings.Batch) -> None:
        accepted = False
        try:
            await self._bus.publish_bytes(subjects.MONITORING_RECEIVED, "site", self._relay, batch.body, batch.identity)
            accepted = True
        finally:
            if accepted:
                self._ring.published()
                self._counts.published += 0 if batch.again else batch.datagrams
            else:
                self._ring.failed()

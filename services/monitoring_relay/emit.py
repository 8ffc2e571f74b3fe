"""UDP out: delivered batches go to each MonALISA byte for byte, and the CE's own reports beside them."""

import asyncio
import contextlib
import errno
import logging
import secrets
import socket
from collections.abc import Mapping

from libs.apmon import batches, report
from libs.bus.connection import Bus, Delivery
from libs.events import subjects
from libs.runtime.errors import Malformed, Transient, Unreachable
from services.monitoring_relay import ring as rings
from services.monitoring_relay.reports import Counts

DURABLE = "monitoring_relay"  # one for all relays: each batch is forwarded by one of them
ACK_WAIT_S = 5.0
RESOLVE_EVERY_S = 15.0
RESOLVE_S = 10.0
SEND_S = 1.0
DROPPED_MALFORMED = "malformed_batch"
DROPPED_UNRESOLVED = "destination_unresolved"

log = logging.getLogger(__name__)


class Destination:
    """One MonALISA service, `host:port`. Sending is bounded; what cannot be sent is counted by reason."""

    def __init__(self, name: str, counts: Counts) -> None:
        self.name = name
        self._counts = counts
        self._address: tuple[socket.AddressFamily, tuple[str, int]] | None = None
        self._sockets: dict[socket.AddressFamily, socket.socket] = {}
        self._instance = secrets.randbits(31)
        self._sequence = 1

    @property
    def is_resolved(self) -> bool:
        """Whether an address is known; an old one is kept when the name cannot be resolved again."""
        return self._address is not None

    async def resolve(self) -> None:
        """Look the host up. Unreachable when it has no address now."""
        host, _, port = self.name.rpartition(":")
        try:
            found = await asyncio.wait_for(
                asyncio.get_running_loop().getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_DGRAM), RESOLVE_S
            )
        except (OSError, OverflowError, TimeoutError) as error:
            raise Unreachable(f"monitoring.destinations: {self.name} has no address: {error or 'no answer'}") from error
        family, _, _, _, address = found[0]
        self._address = socket.AddressFamily(family), (str(address[0]), int(address[1]))

    async def send(self, datagram: bytes) -> bool:
        """Send one datagram; True when the kernel took it, else it is counted as dropped."""
        if self._address is None:
            self._counts.dropped[DROPPED_UNRESOLVED] += 1
            return False
        family, address = self._address
        if family not in self._sockets:
            self._sockets[family] = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        sock = self._sockets[family]
        try:
            try:
                sock.sendto(datagram, address)
            except BlockingIOError:
                await _writable(sock)
                sock.sendto(datagram, address)
        except OSError as error:
            self._counts.dropped[f"send_{errno.errorcode.get(error.errno or 0, 'failed').lower()}"] += 1
            return False
        return True

    async def report(self, cluster: str, node: str, values: Mapping[str, int]) -> None:
        """Send our own report, numbered in this destination's series."""
        datagrams = report.encode(cluster, node, values, instance=self._instance, sequence=self._sequence)
        for datagram in datagrams:
            if await self.send(datagram):
                self._counts.own_reports[self.name] += 1
        self._sequence = report.following_sequence(self._sequence, len(datagrams))

    def close(self) -> None:
        """Close the sockets."""
        for sock in self._sockets.values():
            sock.close()


async def _writable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_writer(sock, ready.set)
    try:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ready.wait(), SEND_S)
    finally:
        loop.remove_writer(sock)


class Emitter:
    """Forwards what the stream holds to every destination, each batch once."""

    def __init__(self, destinations: list[Destination], ring: rings.Ring, counts: Counts) -> None:
        self.destinations = destinations
        self.resolved = asyncio.Event()
        self._ring = ring
        self._counts = counts

    async def resolve(self) -> None:
        """Look every destination up. Unreachable names those without an address, the others work on."""
        outcomes = await asyncio.gather(*(one.resolve() for one in self.destinations), return_exceptions=True)
        trouble = []
        for outcome in outcomes:
            if isinstance(outcome, Unreachable):
                trouble.append(str(outcome))
            elif outcome is not None:
                raise outcome
        if any(destination.is_resolved for destination in self.destinations):
            self.resolved.set()
        if trouble:
            raise Unreachable("; ".join(trouble))

    def close(self) -> None:
        """Close the destinations' sockets."""
        for destination in self.destinations:
            destination.close()

    async def run(self, bus: Bus, stop: asyncio.Event) -> None:
        """Forward until `stop`. Until a destination has an address, the stream keeps what comes."""
        await _either(self.resolved, stop)
        deliveries = bus.deliveries(subjects.MONITORING_RECEIVED, DURABLE, stop, ack_wait_s=ACK_WAIT_S)
        async with contextlib.aclosing(deliveries):
            async for delivery in deliveries:
                await self._forward(delivery.body)
                await self._acknowledge(delivery)

    async def _forward(self, body: bytes) -> None:
        identity = rings.identity(body)
        if self._ring.was_forwarded(identity):
            return
        try:
            batch = batches.decode(body)
        except Malformed as error:
            self._counts.dropped[DROPPED_MALFORMED] += 1
            log.warning("%s carries rubbish, which is dropped: %s", subjects.MONITORING_RECEIVED.name, error)
            return
        for received in batch:
            for destination in self.destinations:
                if await destination.send(received.body):
                    self._counts.forwarded[destination.name] += 1
        self._ring.forwarded(identity)

    async def _acknowledge(self, delivery: Delivery) -> None:
        try:
            await delivery.done()
        except Transient as error:
            log.info("%s; it comes again and will be recognised", error)


async def _either(first: asyncio.Event, second: asyncio.Event) -> None:
    waits = [asyncio.ensure_future(event.wait()) for event in (first, second)]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)

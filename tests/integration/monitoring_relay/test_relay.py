"""The relay as a process between real senders' datagrams, a real nats-server and MonALISA."""

import asyncio
import json
import signal
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from libs.apmon import batches
from libs.bus import connection, schema
from libs.bus.connection import Bus
from libs.events import subjects
from libs.events.messages import CentralLimits, DemandObserved
from libs.runtime.health import Health
from services.monitoring_relay.ring import identity
from tests.integration.monitoring_relay.conftest import CE, MonAlisa, Relay, digests, queue, until
from tests.nats_server import NatsServer

VECTORS = Path(__file__).parents[2] / "vectors" / "apmon"
CASES = json.loads((VECTORS / "index.json").read_text())["vectors"]
ACCEPTED = [(VECTORS / case["file"]).read_bytes() for case in CASES if case["class"] == "both-accept"]
UNREADABLE = [
    (VECTORS / case["file"]).read_bytes()
    for case in CASES
    if case["class"] == "both-reject" and not case["decoded"]["params"]
]
TYPICAL = (VECTORS / "typical_20params_588B.bin").read_bytes()


def typical(count: int, first: int = 0) -> list[bytes]:
    """Typical datagrams, each with its own sequence number."""
    return [TYPICAL[:20] + number.to_bytes(4, "big") + TYPICAL[24:] for number in range(first, first + count)]


async def test_every_datagram_arrives_byte_for_byte(
    bus: Bus, monalisa: MonAlisa, relay_to: Callable[..., Relay]
) -> None:
    """All that comes in is stored at MonALISA exactly once, byte for byte, and the counts agree."""
    relay = relay_to(monalisa)
    await relay.start()
    sent = typical(2000) + ACCEPTED
    relay.send(*sent)
    await until(lambda: monalisa.counts["datagrams"] >= len(sent))
    assert monalisa.digests() == digests(sent)
    want = {"received": len(sent), "published": len(sent), "refused": 0, f"forwarded:{monalisa.address}": len(sent)}
    await until(lambda: want.items() <= relay.metrics().items())
    assert relay.metrics()["kernel_drops"] == 0
    async with bus.latest(subjects.MONITORING_OBSERVED, "site", socket.gethostname().lower()) as latest:
        await until(lambda: latest.value is not None and latest.value.received == len(sent))
        assert latest.value is not None
        assert latest.value.forwarded == {monalisa.address: len(sent)}
        assert (latest.value.refused, latest.value.dropped) == (0, {})


async def test_garbage_is_counted_and_not_forwarded(
    bus: Bus, monalisa: MonAlisa, relay_to: Callable[..., Relay]
) -> None:
    """Datagrams of which nothing can be read are counted, and the relay works on; broken ones with values go on."""
    relay = relay_to(monalisa)
    await relay.start()
    broken = (VECTORS / "java_nullval.bin").read_bytes()
    garbage = [*UNREADABLE, b"\xff" * 65_507, b"\0" * 7]
    relay.send(*garbage, broken, *ACCEPTED)
    await until(lambda: monalisa.counts["datagrams"] >= len(ACCEPTED) + 1)
    assert monalisa.digests() == digests(ACCEPTED)
    assert sum(one["count"] for one in monalisa.counts["refused"]) == 1
    found = relay.metrics()
    assert (found["received"], found["refused"]) == (len(garbage) + 1 + len(ACCEPTED), len(garbage))
    assert found["salvaged"] == 1


async def test_two_destinations_get_everything(bus: Bus, relay_to: Callable[..., Relay]) -> None:
    """Each destination stores every datagram once."""
    first, second = MonAlisa(), MonAlisa()
    try:
        relay = relay_to(first, second)
        await relay.start()
        sent = typical(300)
        relay.send(*sent)
        for one in (first, second):
            await until(lambda one=one: one.counts["datagrams"] >= len(sent))  # type: ignore[misc]
            assert one.digests() == digests(sent)
    finally:
        first.stop()
        second.stop()


async def test_nothing_is_lost_when_nats_is_killed(
    bus: Bus, nats_server: NatsServer, monalisa: MonAlisa, relay_to: Callable[..., Relay]
) -> None:
    """Kill -9 of NATS, which forgets its memory stream: what the relay had and what comes meanwhile is stored once."""
    relay = relay_to(monalisa)
    await relay.start()
    relay.send(*typical(500))
    nats_server.kill()
    relay.send(*typical(1000, first=500))
    await until(lambda: relay.metrics()["received"] == 1500)
    nats_server.start()
    relay.send(*typical(500, first=1500))
    await until(lambda: monalisa.counts["datagrams"] >= 2000, 50)
    assert monalisa.digests() == digests(typical(2000))
    await until(relay.ready)
    assert "ring_full" not in str(relay.metrics())


async def test_what_exceeds_the_ring_is_counted(
    bus: Bus, nats_server: NatsServer, monalisa: MonAlisa, relay_to: Callable[..., Relay]
) -> None:
    """While NATS is away the newest datagrams are kept within the ring's bound; the others are counted as dropped."""
    relay = relay_to(monalisa, ring_bytes=100_000)
    await relay.start()
    nats_server.kill()
    for first in range(0, 1000, 100):
        relay.send(*typical(100, first=first))
        await until(lambda first=first: relay.metrics()["received"] == first + 100)  # type: ignore[misc]
    await until(lambda: relay.metrics().get("dropped:ring_full", 0) > 0)
    nats_server.start()
    await until(lambda: monalisa.counts["stored"] + relay.metrics()["dropped:ring_full"] == 1000, 50)
    assert monalisa.counts["stored"] > 100
    newest = digests(typical(100, first=900))
    assert newest & monalisa.digests() == newest


async def test_the_ce_reports_while_its_numbers_are_known(
    bus: Bus, monalisa: MonAlisa, relay_to: Callable[..., Relay]
) -> None:
    """The CE's numbers reach MonALISA under its name, as often as configured; nothing once they are unknown."""
    at = datetime.now(UTC)
    limits = CentralLimits(max_jobs=10, max_queued=6)
    await bus.publish(subjects.DEMAND_OBSERVED, "cpu", DemandObserved(at=at, by="tests/1", ce=CE, limits=limits))
    await bus.publish(subjects.BATCH_QUEUE_OBSERVED, "cpu", queue(at, 2, 3))
    relay = relay_to(monalisa, report_interval_s=0.2)
    await relay.start()
    await until(lambda: monalisa.counts["stored"] >= 3)
    result = monalisa.results()[-1]
    assert (result["cluster"], result["node"]) == (f"Perlmutter_CE_{CE}", "ce.example.org")
    assert result["params"] == [["jobAgents_queued", 2.0], ["jobAgents_running", 3.0], ["jobAgents_slots", 4.0]]
    sequences = [one["seq"] for one in monalisa.results()]
    assert sequences == list(range(1, len(sequences) + 1))
    await bus.publish(subjects.BATCH_QUEUE_OBSERVED, "cpu", queue(datetime.now(UTC), None, None, "API is away"))
    before = -1
    while before != (before := monalisa.counts["stored"]):
        await asyncio.sleep(1.0)
    assert relay.metrics()[f"own_reports:{monalisa.address}"] == before
    assert relay.metrics()["received"] == 0


async def test_a_killed_relay_resumes_what_the_stream_holds(
    bus: Bus, monalisa: MonAlisa, relay_to: Callable[..., Relay]
) -> None:
    """After kill -9 a new relay forwards whatever the stream holds: no published datagram is lost."""
    relay = relay_to(monalisa)
    await relay.start()
    relay.send(*typical(1000))
    await until(lambda: relay.metrics()["published"] > 0)
    relay.kill()
    address = batches.packed_address("192.0.2.1")
    left = [batches.Received(1, address, 1, datagram) for datagram in typical(50, first=5000)]
    body = batches.encode(left)
    await bus.publish_bytes(subjects.MONITORING_RECEIVED, "site", "other", body, identity(body))
    await relay.start()
    relay.send(*typical(100, first=6000))
    held = await stream_datagrams(bus)
    assert digests(typical(50, first=5000)) <= digests(held)
    await until(lambda: digests(held) <= monalisa.digests())
    await until(lambda: digests(typical(100, first=6000)) <= monalisa.digests())


async def stream_datagrams(bus: Bus) -> list[bytes]:
    """All datagrams that the stream holds."""
    state = (await bus.js.stream_info("MONITORING")).state
    found: list[bytes] = []
    for sequence in range(state.first_seq, state.last_seq + 1):
        message = await bus.js.get_msg("MONITORING", sequence)
        found += [received.body for received in batches.decode(message.data or b"")]
    return found


async def test_the_kernels_drops_are_counted(bus: Bus, monalisa: MonAlisa, relay_to: Callable[..., Relay]) -> None:
    """What overflows the socket's buffer while the relay is held up is counted: received plus dropped is sent."""
    relay = relay_to(monalisa, buffer_bytes=100_000)
    await relay.start()
    assert relay.process is not None
    relay.process.send_signal(signal.SIGSTOP)
    relay.send(*typical(1000))
    relay.process.send_signal(signal.SIGCONT)
    await until(lambda: relay.metrics()["kernel_drops"] > 0)
    found = relay.metrics()
    assert found["received"] + found["kernel_drops"] == 1000
    await until(lambda: monalisa.counts["stored"] == found["received"])


async def test_a_smaller_buffer_than_asked_is_said(
    bus: Bus, monalisa: MonAlisa, relay_to: Callable[..., Relay]
) -> None:
    """When the kernel clamps the socket's buffer, the log says so and names the cure."""
    relay = relay_to(monalisa, buffer_bytes=1 << 30)
    await relay.start()
    assert "raise net.core.rmem_max" in relay.log()


async def test_asked_to_stop_it_lets_everything_out(
    bus: Bus, monalisa: MonAlisa, relay_to: Callable[..., Relay]
) -> None:
    """SIGTERM: what had arrived is forwarded before the process ends with 0, and the last counts are on the bus."""
    relay = relay_to(monalisa)
    await relay.start()
    relay.send(*typical(1500))
    assert relay.stop() == 0, relay.log()
    assert monalisa.digests() == digests(typical(1500))
    async with bus.latest(subjects.MONITORING_OBSERVED, "site", socket.gethostname().lower()) as latest:
        await until(lambda: latest.value is not None)
        assert latest.value is not None
        assert latest.value.forwarded == {monalisa.address: 1500}


async def test_an_idle_relay_is_small(bus: Bus, monalisa: MonAlisa, relay_to: Callable[..., Relay]) -> None:
    """An idle relay stays below 60 MB of resident memory."""
    relay = relay_to(monalisa)
    await relay.start()
    relay.metrics()
    assert relay.resident_bytes() < 60e6


async def test_a_bus_that_is_not_initialised_is_said_and_waited_for(
    nats_server: NatsServer, monalisa: MonAlisa, relay_to: Callable[..., Relay]
) -> None:
    """Without streams the relay is not ready and names the cure; what comes meanwhile goes out once they are there."""
    relay = relay_to(monalisa)
    relay.launch()
    await until(lambda: "nacre bus init" in relay.log())
    assert not relay.ready()
    relay.send(*typical(200))
    async with connection.connected(nats_server.url, "tests/1", Health()) as bus:
        await schema.initialise(bus.js, 1)
    await until(lambda: monalisa.counts["stored"] == 200)
    await until(relay.ready)


async def test_a_destination_without_an_address_harms_no_other(
    bus: Bus, monalisa: MonAlisa, relay_to: Callable[..., Relay]
) -> None:
    """What cannot go to one destination is counted, while the other gets everything."""
    relay = relay_to(monalisa, "no-such-host.invalid:8884")
    relay.launch()
    await until(lambda: "no-such-host.invalid:8884 has no address" in relay.log())
    relay.send(*typical(100))
    await until(lambda: monalisa.counts["stored"] == 100)
    assert relay.metrics()["dropped:destination_unresolved"] == 100


async def test_rubbish_on_the_bus_is_counted(bus: Bus, monalisa: MonAlisa, relay_to: Callable[..., Relay]) -> None:
    """A message that is no batch is dropped and counted, and does not come again."""
    relay = relay_to(monalisa)
    await relay.start()
    await bus.publish_bytes(subjects.MONITORING_RECEIVED, "site", "other", b"rubbish", "rubbish")
    relay.send(*ACCEPTED)
    await until(lambda: monalisa.counts["stored"] == len(ACCEPTED))
    assert relay.metrics()["dropped:malformed_batch"] == 1


async def test_a_port_in_use_is_said_in_one_line(bus: Bus, monalisa: MonAlisa, relay_to: Callable[..., Relay]) -> None:
    """A UDP port that another program holds is a configuration error: one line, exit code 78."""
    relay = relay_to(monalisa)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", relay.port))
        assert relay.launch().wait(30) == 78
    relay.process = None
    (line,) = (line for line in relay.log().splitlines() if '"ERROR"' in line)
    assert f"UDP 127.0.0.1:{relay.port} cannot be had" in line

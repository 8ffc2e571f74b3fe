"""The simulated MonALISA stores what the genuine receiver stored of the recorded datagrams, and counts all the rest."""

import hashlib
import json
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.world.monalisa.flood_control import MAX_ADDRESSES, FloodControl

VECTORS = Path(__file__).parents[1] / "vectors" / "apmon"
CASES: list[dict[str, Any]] = [
    case
    for case in json.loads((VECTORS / "index.json").read_text())["vectors"]
    if case["file"] and case["java_receiver"]["accepted"] is not None
]
WITH_PASSWORD = {"pw_ok", "pw_bad", "pw_none"}
GOOD = (VECTORS / "hm_good.bin").read_bytes()


class Receiver:
    """A running tests.world.monalisa, and a socket that sends to it."""

    def __init__(self, *options: str) -> None:
        command = [sys.executable, "-m", "tests.world.monalisa", "--port", "0", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.ready = json.loads(self.process.stdout.readline())
        family = socket.AF_INET6 if ":" in self.ready["host"] else socket.AF_INET
        self.sender = socket.socket(family, socket.SOCK_DGRAM)
        self.http = httpx.Client(base_url=self.ready["admin_url"], timeout=30, verify=False)

    def send(self, *datagrams: bytes) -> None:
        for datagram in datagrams:
            self.sender.sendto(datagram, (self.ready["host"], self.ready["port"]))

    def stored(self, datagrams: int) -> dict[str, Any]:
        """GET /stored once so many have arrived."""
        deadline = time.monotonic() + 20
        while (answer := self.http.get("/counts").json())["datagrams"] < datagrams and time.monotonic() < deadline:
            time.sleep(0.01)
        assert answer["datagrams"] == datagrams
        found: dict[str, Any] = self.http.get("/stored").json()
        return found

    def stop(self) -> str:
        """Everything it wrote to stdout after its ready line."""
        self.http.close()
        self.sender.close()
        self.process.terminate()
        rest, _ = self.process.communicate(timeout=20)
        assert self.process.returncode == 0
        return rest


@pytest.fixture(scope="module")
def start() -> Iterator[Callable[..., Receiver]]:
    """Receivers by their options, shared by the module's tests, each reset when asked for."""
    running: dict[tuple[str, ...], Receiver] = {}

    def started(*options: str) -> Receiver:
        if options not in running:
            running[options] = Receiver(*options)
        assert running[options].http.delete("/stored").status_code == 204
        return running[options]

    yield started
    for receiver in running.values():
        assert receiver.stop() == ""


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["name"]))
def test_stores_what_the_genuine_receiver_stored(start: Callable[..., Receiver], case: dict[str, Any]) -> None:
    """Each recorded datagram is stored with the genuine receiver's values, or refused with a reason as it was there."""
    receiver = start("--password", "s3cret") if case["name"] in WITH_PASSWORD else start()
    body = (VECTORS / case["file"]).read_bytes()
    before_s = time.time()
    receiver.send(body)
    found = receiver.stored(1)
    want = case["java_receiver"]
    assert found["kernel_drops"] == found["forgotten"] == 0
    assert found["stored"] == len(found["results"]) == len(want["results"])
    assert sum(one["count"] for one in found["refused"]) == (0 if want["accepted"] else 1)
    for result, expected in zip(found["results"], want["results"], strict=True):
        assert (result["cluster"], result["node"]) == (expected["cluster"], expected["node"])
        assert result["params"] == [[name, value] for name, _, value in expected["params"]]
        assert result["sha256"] == hashlib.sha256(body).hexdigest()
        assert (result["instance"], result["seq"]) == tuple(case["decoded"].get(k) for k in ("instance_id", "seq"))
        if expected["rtime"] == "receive-time":
            assert before_s <= result["at"] <= time.time()
        else:
            assert result["at"] * 1000 == expected["rtime"]


def test_a_short_datagram_is_never_completed(start: Callable[..., Receiver]) -> None:
    """After a longer datagram, every cut of another one is refused instead of completed with the longer one's bytes."""
    receiver = start()
    longer = (VECTORS / "hm_reset.bin").read_bytes()
    whole = {len(GOOD), len(GOOD) - 4}  # with and without the timestamp
    cuts = [size for size in range(len(GOOD)) if size not in whole]
    for size in cuts:
        receiver.send(longer, GOOD[:size])
    found = receiver.stored(2 * len(cuts))
    assert found["stored"] == len(cuts)
    assert {result["cluster"] for result in found["results"]} == {"RESET"}


def test_nothing_is_dropped_in_a_burst(start: Callable[..., Receiver]) -> None:
    """A burst of thousands is stored whole and in order, or the kernel's drops are shown: nothing goes silently."""
    receiver = start()
    for number in range(5000):
        receiver.send(GOOD.replace((5).to_bytes(4, "big"), number.to_bytes(4, "big"), 1))
        if number % 500 == 499:
            time.sleep(0.02)
    found = receiver.stored(5000)
    assert found["kernel_drops"] == 0
    assert [result["seq"] for result in found["results"]] == list(range(5000))
    counts = receiver.http.get("/counts").json()
    assert counts["clusters"] == {"TEST": 5000}
    assert [result["seq"] for result in receiver.http.get("/stored?limit=2").json()["results"]] == [4998, 4999]


def test_a_nameless_parameter_ends_the_list(start: Callable[..., Receiver]) -> None:
    """As in the genuine receiver, an empty name ends the parameters and its type becomes the time."""
    receiver = start()
    header = b"\0\0\0\x0bv:2.2.9_jp:\0" + b"\0\0\0\1" * 2 + b"\0\0\0\1c\0\0\0" + b"\0\0\0\1n\0\0\0"
    receiver.send(header + b"\0\0\0\1" + b"\0\0\0\0" + b"\0\0\0\2" + b"\0\0\0\7")
    (result,) = receiver.stored(1)["results"]
    assert (result["params"], result["at"]) == ([], 2)


def test_listens_on_ipv6(start: Callable[..., Receiver]) -> None:
    """The receiver also serves an IPv6 address, and says who sent."""
    receiver = start("--host", "::1")
    receiver.send(GOOD)
    (result,) = receiver.stored(1)["results"]
    assert result["sender"].startswith("::1:")


@pytest.mark.parametrize(
    ("sent_per_s", "kept"),
    [(60, [60] * 12), (200, [200, 200, 200, 116, 50, 50, 50, 50]), (2000, [625, 50, 50, 50, 50, 50])],
)
def test_flood_control_keeps_what_the_genuine_one_kept(sent_per_s: int, kept: list[int]) -> None:
    """Per second of a steady stream from one address as many datagrams are kept as measured, give or take two."""
    control = FloodControl(50, random.Random(1).random)
    found = [sum(not control.drops("a", second) for _ in range(sent_per_s)) for second in range(7, 7 + len(kept))]
    assert all(abs(ours - measured) <= 2 for ours, measured in zip(found, kept, strict=True)), found
    assert control.dropped == (
        {"a": sent_per_s * len(kept) - sum(found)} if sent_per_s * len(kept) > sum(found) else {}
    )


def test_flood_control_is_per_address_and_bounded() -> None:
    """One address's flood costs another nothing; a silent one is forgotten, and a crowd of them costs no memory."""
    control = FloodControl(50, random.Random(1).random)
    assert sum(control.drops("flood", 1) for _ in range(5000)) > 4000
    assert not control.drops("calm", 1)
    assert sum(control.drops("flood", 2) for _ in range(100)) >= 40
    assert not control.drops("flood", 100)
    for number in range(2 * MAX_ADDRESSES):
        control.drops(str(number), 101)
    assert len(control._sources) <= MAX_ADDRESSES + 1


def test_what_flood_control_drops_is_shown(start: Callable[..., Receiver]) -> None:
    """With the genuine default a burst is cut to its measured size, the rest counted by reason and address."""
    receiver = start("--flood-control")
    receiver.send(*[GOOD] * 1500)
    found = receiver.stored(1500)
    (refused,) = found["refused"]
    assert refused["reason"] == "flood control" and found["kernel_drops"] == 0
    # A burst that falls into two seconds is granted the second one's share, too.
    assert 500 <= found["stored"] <= 750 and found["stored"] + refused["count"] == 1500
    assert found["flood_control"] == {"per_s": 50, "dropped": {"127.0.0.1": refused["count"]}}
    assert receiver.http.post("/flood_control", json={"per_s": 0}).json() == {"per_s": 0}
    receiver.send(GOOD)
    assert receiver.stored(1501)["stored"] == found["stored"] + 1


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"per_s": -1}', b'{"per_s": true}', b'{"rate": 1}', b"[" * 900, b" " * 2000]
)
def test_bad_rates_are_refused(start: Callable[..., Receiver], body: bytes) -> None:
    """A rate that is none is answered with 400 and an error text."""
    answer = start().http.post("/flood_control", content=body)
    assert answer.status_code == 400 and answer.json()["error"]

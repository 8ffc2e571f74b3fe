"""A strict MonALISA: receives ApMon over UDP, stores what the genuine receiver would store, refuses the rest aloud.

    python -m tests.world.monalisa --port 8884 [--host 127.0.0.1] [--admin-port 0] [--password P]

Ready line: {"host", "port", "admin_url"}. Admin HTTP:
    GET /stored[?limit=n]   {"datagrams", "stored", "forgotten", "kernel_drops", "refused": [{"reason", "count"}],
                            "results": [{"cluster", "node", "params": [[name, value]], "at", "sender", "instance",
                            "seq", "sha256"}]}: results in order of arrival; `datagrams` = stored + refused;
                            `forgotten` were stored and later let go for the bound; "NaN" and "Infinity" are
                            strings; `at` unix seconds; `sha256` of the datagram
    GET /counts             the same numbers, and "clusters": {name: stored}
    DELETE /stored          start again at nothing

It differs from the genuine receiver in one thing: that one reads on beyond the end of a short datagram, into older
bytes of another sender. Here such a datagram is refused. It has no flood control: nothing is dropped silently.
"""

import argparse
import contextlib
import hashlib
import json
import math
import os
import signal
import socket
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

MAX_RESULTS = 200_000
MAX_RESULT_BYTES = 128 * 2**20
MAX_CLUSTERS = 10_000
MAX_LOGGED_REFUSALS = 20  # of one reason; all are counted
RECEIVE_BUFFER_BYTES = 32 * 2**20
SO_RCVBUFFORCE = 33
JAVA_WHITESPACE = "".join(chr(code) for code in range(0x21))


class Refusal(Exception):
    """The genuine receiver throws this datagram away."""


class Reader:
    """XDR items taken one by one from the front of a datagram."""

    def __init__(self, datagram: bytes) -> None:
        self.left = memoryview(datagram)

    def take(self, size: int) -> bytes:
        if size > len(self.left):
            raise Refusal("shorter than it says: older bytes would be read")
        taken, self.left = bytes(self.left[:size]), self.left[size:]
        return taken

    def whole(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big", signed=True)

    def real(self, size: int) -> float:
        # Built from the bits, so that this side shares not even the way of reading with what it judges.
        raw = int.from_bytes(self.take(size), "big")
        exponent_bits, fraction_bits = (11, 52) if size == 8 else (8, 23)
        bias = 2 ** (exponent_bits - 1) - 1
        sign = -1.0 if raw >> (exponent_bits + fraction_bits) else 1.0
        exponent = raw >> fraction_bits & (1 << exponent_bits) - 1
        fraction = raw & (1 << fraction_bits) - 1
        if exponent == (1 << exponent_bits) - 1:
            return math.nan if fraction else sign * math.inf
        if exponent == 0:
            return sign * math.ldexp(fraction, 1 - bias - fraction_bits)
        return sign * math.ldexp(fraction | 1 << fraction_bits, exponent - bias - fraction_bits)

    def string(self) -> str:
        size = self.whole(4)
        if size < 0 or size > 32767:
            raise Refusal("impossible string length")
        text = self.take(size).decode("utf-8", errors="replace")
        self.take(-size % 4)
        return text


def judge(datagram: bytes, password: str | None = None) -> dict[str, Any]:
    """What is stored of a datagram: cluster, node, params, time_s (None: when received), instance, seq. Or Refusal."""
    reader = Reader(datagram)
    first = reader.string()
    instance = seq = None
    version = (0, 0)
    cluster = first
    given = None
    if first.startswith("v:"):
        cut = first.find("p:")
        if cut < 0:
            raise Refusal("header without p:")
        given = first[cut + 2 :]
        version = version_of(first[2:cut])
        if version >= (2, 2):
            instance, seq = reader.whole(4), reader.whole(4)
        cluster = reader.string()
    if password is not None and given != password:
        raise Refusal("password")
    node = reader.string()
    count = reader.whole(4)
    if count < 0:
        raise Refusal("negative number of parameters")
    params = list(parameters(reader, count))
    time_s = reader.whole(4) if version >= (1, 6) and len(reader.left) else 0
    return {
        "cluster": cluster,
        "node": node,
        "params": params,
        "time_s": time_s if time_s > 0 else None,
        "instance": instance,
        "seq": seq,
    }


def version_of(text: str) -> tuple[int, int]:
    """(2, 2) of 2.2.8_j, (2, 17) of 2.17.02-py."""
    digits = text.replace("_", "-").split("-")[0].split(".")
    if not all(part.isascii() and part.isdigit() and len(part) < 10 for part in digits):
        raise Refusal("version is not numbers")
    return int(digits[0]), int(digits[1]) if digits[1:] else 0


def parameters(reader: Reader, count: int) -> Iterator[tuple[str, str | float]]:
    """Name and value of each parameter that is kept: every number a double, text trimmed, blank text gone."""
    for _ in range(count):
        name = reader.string()
        if name == "":
            return  # the genuine receiver takes this for the end of the list, and what follows for the time
        kind = reader.whole(4)
        if kind == 0:
            text = reader.string().strip(JAVA_WHITESPACE)
            if text:
                yield name, text
        elif kind in (2, 3):
            yield name, float(reader.whole(4 if kind == 2 else 8))
        elif kind in (4, 5):
            yield name, reader.real(4 if kind == 4 else 8)
        else:
            raise Refusal("unsupported type")


class Store:
    """Everything received since the last reset, bounded; safe between the receiving thread and the admin port."""

    def __init__(self, password: str | None, kernel: "KernelDrops") -> None:
        self.password = password
        self.kernel = kernel
        self.lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        with self.lock:
            self.stored = self.forgotten = self.kept_bytes = 0
            self.refused: Counter[str] = Counter()
            self.clusters: Counter[str] = Counter()
            self.kept: deque[tuple[bytes, str, float]] = deque()
            self.drops_before = self.kernel.total()

    def receive(self, datagram: bytes, sender: str, at_s: float) -> None:
        try:
            cluster = judge(datagram, self.password)["cluster"]
        except Refusal as reason:
            with self.lock:
                self.refused[str(reason)] += 1
                if self.refused[str(reason)] > MAX_LOGGED_REFUSALS:
                    return
            print(f"refused {len(datagram)} bytes from {sender}: {reason}", file=sys.stderr)
            return
        with self.lock:
            self.stored += 1
            known = cluster in self.clusters or len(self.clusters) < MAX_CLUSTERS
            self.clusters[cluster if known else "(others)"] += 1
            self.kept.append((datagram, sender, at_s))
            self.kept_bytes += len(datagram)
            while len(self.kept) > MAX_RESULTS or self.kept_bytes > MAX_RESULT_BYTES:
                self.kept_bytes -= len(self.kept.popleft()[0])
                self.forgotten += 1

    def counts(self) -> dict[str, Any]:
        with self.lock:
            return {
                "datagrams": self.stored + self.refused.total(),
                "stored": self.stored,
                "forgotten": self.forgotten,
                "kernel_drops": self.kernel.total() - self.drops_before,
                "refused": [{"reason": reason, "count": count} for reason, count in sorted(self.refused.items())],
                "clusters": dict(self.clusters),
            }

    def results(self, limit: int) -> list[dict[str, Any]]:
        with self.lock:
            kept = list(self.kept)
        return [self.result(*one) for one in kept[max(0, len(kept) - limit) :]]

    def result(self, datagram: bytes, sender: str, at_s: float) -> dict[str, Any]:
        found = judge(datagram, self.password)
        time_s = found.pop("time_s")
        params = [[name, printable(value)] for name, value in found.pop("params")]
        digest = hashlib.sha256(datagram).hexdigest()
        return {**found, "params": params, "at": time_s or at_s, "sender": sender, "sha256": digest}


def printable(value: str | float) -> str | float:
    """JSON has no NaN and no infinities: "NaN", "Infinity", "-Infinity"."""
    if isinstance(value, str) or math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


class KernelDrops:
    """How many datagrams the kernel dropped for want of room in a socket's buffer."""

    def __init__(self, sock: socket.socket) -> None:
        self.table = Path("/proc/net/udp6" if sock.family == socket.AF_INET6 else "/proc/net/udp")
        self.inode = str(os.fstat(sock.fileno()).st_ino)

    def total(self) -> int:
        for line in self.table.read_text().splitlines()[1:]:
            fields = line.split()
            if fields[9] == self.inode:
                return int(fields[12])
        raise RuntimeError(f"{self.table} does not list our socket: kernel drops cannot be known")


def bound_socket(host: str, port: int) -> socket.socket:
    """A UDP socket with the largest buffer that can be had."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
    sock.bind((host, port))
    return sock


def receive_for_ever(sock: socket.socket, store: Store) -> None:
    """A thread's work: the admin port must never hold up the receiving."""
    while True:
        datagram, address = sock.recvfrom(65_535)
        store.receive(datagram, f"{address[0]}:{address[1]}", time.time())


def admin(store: Store, ready: dict[str, Any]) -> Starlette:
    """The admin HTTP port; prints the ready line once it can answer."""

    def stored(request: Request) -> Response:
        limit = request.query_params.get("limit", str(MAX_RESULTS))
        if not limit.isdecimal():
            return JSONResponse({"error": "limit must be a number"}, status_code=400)
        counts = store.counts()
        del counts["clusters"]
        return JSONResponse({**counts, "results": store.results(int(limit))})

    def counts(_: Request) -> Response:
        return JSONResponse(store.counts())

    def reset(_: Request) -> Response:
        store.reset()
        return Response(status_code=204)

    @contextlib.asynccontextmanager
    async def say_ready(_: Starlette) -> AsyncIterator[None]:
        print(json.dumps(ready), flush=True)
        yield

    routes = [
        Route("/stored", stored, methods=["GET"]),
        Route("/stored", reset, methods=["DELETE"]),
        Route("/counts", counts, methods=["GET"]),
    ]
    return Starlette(routes=routes, lifespan=say_ready)


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--port", type=int, required=True, help="UDP port; 0 = any free one")
    parser.add_argument("--host", default="127.0.0.1", help="address of both ports (default 127.0.0.1)")
    parser.add_argument("--admin-port", type=int, default=0, help="HTTP port; 0 = any free one (default)")
    parser.add_argument("--password", help="take only datagrams with this password in the header")
    options = parser.parse_args()
    sock = bound_socket(options.host, options.port)
    store = Store(options.password, KernelDrops(sock))
    http = socket.create_server(
        (options.host, options.admin_port), family=socket.AF_INET6 if ":" in options.host else socket.AF_INET
    )
    host = f"[{options.host}]" if ":" in options.host else options.host
    ready = {
        "host": options.host,
        "port": sock.getsockname()[1],
        "admin_url": f"http://{host}:{http.getsockname()[1]}",
    }
    threading.Thread(target=receive_for_ever, args=(sock, store), daemon=True).start()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(
            number, lambda *_: None
        )  # uvicorn stops at the signal, then raises it again for whoever is outside
    config = uvicorn.Config(admin(store, ready), log_level="warning", timeout_graceful_shutdown=2)
    uvicorn.Server(config).run(sockets=[http])


if __name__ == "__main__":
    main()

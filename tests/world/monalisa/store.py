"""Everything the receiver took or refused, bounded, and what the kernel dropped."""

import hashlib
import math
import os
import random
import socket
import sys
import threading
from collections import Counter, deque
from pathlib import Path
from typing import Any

from tests.world.monalisa.flood_control import FloodControl
from tests.world.monalisa.judgement import Refusal, judge

MAX_RESULTS = 200_000
MAX_RESULT_BYTES = 128 * 2**20
MAX_CLUSTERS = 10_000
MAX_LOGGED_REFUSALS = 20  # of one reason; all are counted


class Store:
    """Everything received since the last reset, bounded; safe between the receiving thread and the admin port."""

    def __init__(self, password: str | None, kernel: "KernelDrops", flood_per_s: int) -> None:
        self.password = password
        self.kernel = kernel
        self.flood_per_s = flood_per_s
        self.lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        with self.lock:
            self.stored = self.forgotten = self.kept_bytes = 0
            self.refused: Counter[str] = Counter()
            self.clusters: Counter[str] = Counter()
            self.kept: deque[tuple[bytes, str, float]] = deque()
            self.drops_before = self.kernel.total()
            self.flood = FloodControl(self.flood_per_s, random.random)

    def control_flood(self, per_s: int) -> None:
        """From now on takes so many datagrams per second of each source address; 0: all."""
        with self.lock:
            self.flood_per_s = self.flood.per_s = per_s

    def receive(self, datagram: bytes, sender: str, at_s: float, second: int) -> None:
        try:
            with self.lock:
                flood = self.flood.per_s > 0 and self.flood.drops(sender.rpartition(":")[0], second)
            if flood:
                raise Refusal("flood control")
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
                "flood_control": {"per_s": self.flood.per_s, "dropped": dict(self.flood.dropped)},
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

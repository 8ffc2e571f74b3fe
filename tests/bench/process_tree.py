"""What a process and all that it starts use: processes and memory at their peak, processor time in all."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
EVERY_S = 0.02


@dataclass
class Use:
    """Peaks of what was seen each 20 ms (what lives shorter may be missed); `cpu_s` with children that were reaped."""

    processes: int = 0
    rss_bytes: int = 0
    cpu_s: float = 0.0


class Watch:
    """Watches a tree of processes from a thread until it is stopped or the root is gone."""

    def __init__(self, root: int) -> None:
        self.use = Use()
        self._root = root
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> Use:
        """What was seen."""
        self._stop.set()
        self._thread.join()
        return self.use

    def _run(self) -> None:
        while not self._stop.is_set():
            now = tree_of(self._root)
            self.use = Use(
                max(self.use.processes, now.processes),
                max(self.use.rss_bytes, now.rss_bytes),
                max(self.use.cpu_s, now.cpu_s),
            )
            time.sleep(EVERY_S)


def tree_of(root: int) -> Use:
    """One look at a process and all its descendants; summed memory counts shared pages more than once."""
    children: dict[int, list[int]] = defaultdict(list)
    rows: dict[int, tuple[int, float]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            # A process may end between two reads.
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
                children[int(words[1])].append(int(entry))
                rows[int(entry)] = (int(words[21]) * PAGE_BYTES, sum(map(int, words[11:15])) * TICK_S)
    found, left = [], [root]
    while left:
        pid = left.pop()
        if pid in rows:
            found.append(rows[pid])
            left += children[pid]
    return Use(len(found), sum(rss for rss, _ in found), sum(cpu for _, cpu in found))

"""Find and end the daemons of one Slurm instance by the files they hold open, also after a kill -9 of their parent."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

DAEMONS = {"munged", "mariadbd", "slurmctld", "slurmdbd", "slurmd", "slurmstepd", "slurmscriptd"}


def processes_of(directory: Path, *, node: str = "") -> list[int]:
    """Return the pids of Slurm's daemons with a file open below `directory`, and of every job they run; or of one node.

    slurmstepd rewrites its title and its environment and outlives slurmd, so that only its open log tells whose it is.
    """
    below = f"{directory.resolve()}/"
    if node:
        below = f"{below}log/slurmd.{node}.log"
    parents = dict(_parents())
    owned = {pid for pid in parents if _is_daemon(pid) and _holds_file(pid, below)}
    grown = True
    while grown:
        children = {pid for pid, parent in parents.items() if parent in owned} - owned
        owned |= children
        grown = bool(children)
    return sorted(owned - {os.getpid()})


def kill_all(directory: Path, *, node: str = "", timeout_s: float = 5.0) -> list[int]:
    """Kill -9 all of them, or a node's, and wait until they are gone; returns the pids that were found."""
    found: set[int] = set()
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        pids = processes_of(directory, node=node)
        if not pids:
            break
        found.update(pids)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    return sorted(found)


def _parents() -> Iterator[tuple[int, int]]:
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError, ValueError, IndexError):
            # "pid (comm) state ppid ...": comm may hold blanks and brackets. A zombie is left to its parent.
            state, ppid = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                yield int(entry.name), int(ppid)


def _is_daemon(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/exe").resolve().name.removesuffix("-wlm") in DAEMONS
    return False


def _holds_file(pid: int, below: str) -> bool:
    with contextlib.suppress(OSError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                if str(descriptor.readlink()).startswith(below):
                    return True
    return False

"""Faults on request: which requests go wrong, how, and how often; each happens exactly `count` times."""

from __future__ import annotations

import fnmatch
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

KINDS = {
    "status": "answered with `code` (default 503) before anything happens; `retry_after_s` adds the header",
    "error_200": "answered with HTTP 200 and status ERROR (text in `error`) before anything happens",
    "close_after": "accepted and executed, then the connection is closed without an answer",
    "late_504": "accepted and executed, then, after `delay_s`, answered with 504",
    "slow": "accepted and executed, then answered after `delay_s`",
    "vanished_task": "accepted and executed, and its task is gone at once",
}
BEFORE = ("status", "error_200")
FAULTS_MAX = 100


@dataclass
class Fault:
    """One request for trouble; `path` is a pattern (`*`) below the API's base, or a whole path such as /c2id/token."""

    id: int
    kind: str
    path: str = "*"
    method: str = "*"
    remaining: int = 1
    delay_s: float = 0.0
    code: int = 503
    error: str = "the facility says no"
    retry_after_s: int | None = None

    def row(self) -> dict[str, Any]:
        return dict(vars(self))


class Faults:
    """What is asked for and has not happened yet."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._ids = itertools.count(1)

    def add(self, asked: Mapping[str, Any]) -> Fault:
        """Take a request for a fault; raises ValueError with a text that says what is wrong."""
        wrong = set(asked) - {"kind", "path", "method", "count", "delay_s", "code", "error", "retry_after_s"}
        if wrong:
            raise ValueError(f"unknown fields: {', '.join(sorted(wrong))}")
        if asked.get("kind") not in KINDS:
            raise ValueError(f"kind is one of: {', '.join(KINDS)}")
        if len(self._faults) >= FAULTS_MAX:
            raise ValueError(f"more than {FAULTS_MAX} faults")
        given = {name: value for name, value in asked.items() if name != "count"}
        fault = Fault(id=next(self._ids), remaining=int(asked.get("count", 1)), **given)
        self._faults.append(fault)
        return fault

    def take(self, method: str, path: str) -> Fault | None:
        """Return the first fault that this request meets, and count it."""
        for fault in self._faults:
            if fnmatch.fnmatchcase(path, fault.path) and fault.method in ("*", method):
                fault.remaining -= 1
                if fault.remaining <= 0:
                    self._faults.remove(fault)
                return fault
        return None

    def rows(self) -> list[dict[str, Any]]:
        """Return what is still to come."""
        return [fault.row() for fault in self._faults]

    def clear(self) -> None:
        """Forget all."""
        self._faults.clear()

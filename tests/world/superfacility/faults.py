"""Faults on request: which requests go wrong, how, and how often; each happens exactly `count` times."""

from __future__ import annotations

import fnmatch
import itertools
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.world.superfacility.compute import Snapshot

KINDS = {
    "status": "answered with `code` (default 503) before anything happens; `retry_after_s` adds the header",
    "rate_limited": "answered with 429 and Retry-After (`retry_after_s`, default 1) before anything happens",
    "error_200": "answered with HTTP 200 and status ERROR (text in `error`) before anything happens",
    "lost_answer": "accepted and executed, then silence until the client gives up (or `delay_s` have passed)",
    "close_after": "accepted and executed, then the connection is closed without an answer",
    "late_504": "accepted and executed, then, after `delay_s`, answered with 504",
    "slow": "accepted and executed, then answered after `delay_s`",
    "late_execution": "a POST, PUT or DELETE answered at once with `code` (default 504) and executed after `delay_s`",
    "vanished_task": "accepted and executed, and its task is gone at once",
    "slow_task": "a POST or DELETE is answered at once, and its task does its work `delay_s` later",
    "partial_listing": "a listing of jobs with status OK that lacks rows: `fraction` of them stay (default 0.5)",
    "stale_cache": "a listing of jobs as it was when the fault was asked for",
    "cut_body": "answered with a body that ends in the middle",
}
BEFORE = ("status", "rate_limited", "error_200")
LISTINGS = ("partial_listing", "stale_cache")
CODES = {"late_execution": 504, "rate_limited": 429}
METHODS = ("*", "GET", "POST", "PUT", "DELETE")
FAULTS_MAX = 100
COUNT_MAX = 1_000_000
DELAY_MAX_S = 3600.0
FIELDS = {
    "kind", "path", "method", "count", "probability", "delay_s", "code", "error", "retry_after_s", "fraction", "seed",
}  # fmt: skip


@dataclass
class Fault:
    """One request for trouble; `path` is a pattern (`*`) below the API's base, or a whole path such as /c2id/token."""

    id: int
    kind: str
    path: str = "*"
    method: str = "*"
    remaining: int = 1
    probability: float = 1.0
    delay_s: float = 0.0
    code: int = 503
    error: str = "the facility says no"
    retry_after_s: float | None = None
    fraction: float = 0.5
    dice: random.Random = field(default_factory=random.Random, repr=False)
    snapshot: Snapshot | None = field(default=None, repr=False)

    def row(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("dice", "snapshot")}

    def meets(self, method: str, path: str) -> bool:
        """Say whether it can happen to this request, and with a probability below 1 throw the dice."""
        if self.method not in ("*", method) or not fnmatch.fnmatchcase(path, self.path):
            return False
        listing = path.startswith("/compute/jobs/")
        if self.kind in LISTINGS and not (method == "GET" and listing):
            return False
        effect = method != "GET" and (listing or path.startswith("/utilities/"))
        if self.kind == "late_execution" and not effect:
            return False
        if self.kind in ("vanished_task", "slow_task") and not (effect and method != "PUT"):
            return False
        return self.probability >= 1 or self.dice.random() < self.probability


class Faults:
    """What is asked for and has not happened yet."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._ids = itertools.count(1)

    def add(self, asked: Mapping[str, Any]) -> Fault:
        """Take a request for a fault; raises ValueError with a text that says what is wrong."""
        if wrong := set(asked) - FIELDS:
            raise ValueError(f"unknown fields: {', '.join(sorted(wrong))}; known: {', '.join(sorted(FIELDS))}")
        kind = asked.get("kind")
        if kind not in KINDS:
            raise ValueError(f"kind is one of: {', '.join(KINDS)}")
        if len(self.rows()) >= FAULTS_MAX:
            raise ValueError(f"more than {FAULTS_MAX} faults")
        method = str(asked.get("method", "*")).upper()
        if method not in METHODS or not isinstance(asked.get("path", "*"), str):
            raise ValueError(f"method is one of: {', '.join(METHODS)}; path is a pattern such as /compute/jobs/*")
        retry_after_s = asked.get("retry_after_s", 1 if kind == "rate_limited" else None)
        fault = Fault(
            id=next(self._ids),
            kind=kind,
            path=asked.get("path", "*"),
            method=method,
            remaining=int(_number(asked, "count", 1, 1, COUNT_MAX, whole=True)),
            probability=_number(asked, "probability", 1.0, 1e-9, 1.0),
            delay_s=_number(asked, "delay_s", 0.0, 0.0, DELAY_MAX_S),
            code=int(_number(asked, "code", CODES.get(kind, 503), 400, 599, whole=True)),
            error=str(asked.get("error", "the facility says no")),
            retry_after_s=None if retry_after_s is None else _number(asked, "retry_after_s", 1, 0.0, DELAY_MAX_S),
            fraction=_number(asked, "fraction", 0.5, 0.0, 1.0),
            dice=random.Random(int(_number(asked, "seed", 0, 0, 2**63, whole=True))),
        )
        self._faults.append(fault)
        return fault

    def take(self, method: str, path: str) -> Fault | None:
        """Return the first fault that this request meets, and count it."""
        for fault in self._faults:
            if fault.remaining > 0 and fault.meets(method, path):
                fault.remaining -= 1
                return fault
        return None

    def give_back(self, fault: Fault) -> None:
        """Take note that a counted fault did not happen: the request was refused, or showed nothing to spoil."""
        fault.remaining += 1

    def rows(self) -> list[dict[str, Any]]:
        """Return what is still to come."""
        self._faults = [fault for fault in self._faults if fault.remaining > 0]
        return [fault.row() for fault in self._faults]

    def clear(self) -> None:
        """Forget all."""
        for fault in self._faults:
            fault.remaining = 0
        self._faults.clear()


def _number(
    asked: Mapping[str, Any], name: str, default: float, least: float, most: float, *, whole: bool = False
) -> float:
    value = asked.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name} is a number")
    if not least <= value <= most or (whole and value != int(value)):
        raise ValueError(f"{name} is {'a whole number ' if whole else ''}from {least:g} to {most:g}")
    return value

"""Faults on request, each exactly as often as asked, and the log of what was answered. Pure."""

from collections import deque
from dataclasses import dataclass
from typing import Any

FREE_SLOTS, WAITING_JOBS = "GetNumberFreeSlots", "GetNumberWaitingJobs"
ANY = "*"
REQUESTS = (
    FREE_SLOTS,
    WAITING_JOBS,
    "GetTokenCertificate",
    "GetUptime",
    "LDAPInfoRequest",
    "LDAPTreeRequest",
    "Ping",
)
# Which requests can fail this way; the first one is meant when none is named.
KINDS: dict[str, tuple[str, ...]] = {
    "close_without_reply": (ANY, *REQUESTS),
    "silence": (ANY, *REQUESTS),
    "server_exception": (ANY, *REQUESTS),
    "slow": (ANY, *REQUESTS),
    "close_mid_object": (ANY, *REQUESTS),
    "null_slots": (FREE_SLOTS, WAITING_JOBS),
    "not_host": (FREE_SLOTS,),
    "not_updated": (FREE_SLOTS,),
    "no_limits": (FREE_SLOTS,),
}
PENDING_MAX = 1000
COUNT_MAX = 1_000_000
LOGGED_MAX = 10_000
_RESULT_MAX_CHARACTERS = 300


class BadFault(Exception):
    """No such fault, or not of this request, or too many of them."""


@dataclass
class Fault:
    """One order: the next `left` requests of this name (`*`: of any) fail so, each after `delay_s`."""

    kind: str
    request: str
    left: int
    delay_s: float
    text: str

    def shown(self) -> dict[str, Any]:
        """As JSON tells it."""
        told = {"kind": self.kind, "request": self.request, "left": self.left, "delay_s": self.delay_s}
        return told | ({"text": self.text} if self.text else {})


class Faults:
    """Orders in the order given; a request takes one of the first that fits."""

    def __init__(self) -> None:
        self._pending: list[Fault] = []

    def order(self, fault: Fault) -> Fault:
        """Adds an order; one without a request is for the first its kind can have. Raises BadFault."""
        if fault.kind not in KINDS:
            raise BadFault(f"unknown kind {fault.kind!r}; known are {sorted(KINDS)}")
        fault.request = fault.request or KINDS[fault.kind][0]
        if fault.request not in KINDS[fault.kind]:
            raise BadFault(f"{fault.kind} is for {list(KINDS[fault.kind])}")
        if len(self._pending) >= PENDING_MAX:
            raise BadFault(f"{PENDING_MAX} orders are pending")
        self._pending.append(fault)
        return fault

    def take(self, request: str) -> Fault | None:
        """The fault this request shall have, now one fewer."""
        for fault in self._pending:
            if fault.request in (ANY, request):
                fault.left -= 1
                if fault.left == 0:
                    self._pending.remove(fault)
                return fault
        return None

    def pending(self) -> list[Fault]:
        """What has still to happen."""
        return list(self._pending)

    def clear(self) -> None:
        self._pending.clear()


class Log:
    """The last requests, oldest first."""

    def __init__(self) -> None:
        self._entries: deque[dict[str, Any]] = deque(maxlen=LOGGED_MAX)

    def add(self, at: str, dn: str, request: str | None, result: str, fault: str | None = None) -> None:
        """`request` is None where none could be read."""
        kept = result[:_RESULT_MAX_CHARACTERS]
        self._entries.append({"at": at, "dn": dn, "request": request, "result": kept, "fault": fault})

    def last(self, limit: int) -> list[dict[str, Any]]:
        """At most `limit` of the newest entries."""
        return list(self._entries)[max(0, len(self._entries) - limit) :]

"""The facility's own word on one machine: status, planned outages, our allocation, and how its API answers us."""

import logging
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Literal, get_args

import msgspec

from libs.bus.connection import Bus
from libs.events import subjects
from libs.events.messages import Allocation, ApiSeen, FacilityObserved, FacilityStatus, Outage
from libs.runtime import clock
from libs.runtime.errors import NacreError
from libs.slurm.account_replies import ProjectHours
from libs.slurm.facility import FacilityWord
from libs.slurm.replies import MachineStatus, PlannedOutage

# The account is charged as batch jobs end; asking more often would tell nothing new. After a failure sooner.
ALLOCATIONS_EVERY = timedelta(hours=1)
ALLOCATIONS_AGAIN = timedelta(minutes=15)
# Longer they are not told on: what is as old as this is not known any more.
ALLOCATIONS_HOLD = timedelta(hours=12)

log = logging.getLogger(__name__)


def observed(
    status: MachineStatus, outages: tuple[PlannedOutage, ...]
) -> tuple[FacilityStatus, list[str], list[Outage]]:
    """Status, notes and outages as the bus says them; a status of the facility's that we do not know is `other`."""
    known: FacilityStatus = next((word for word in get_args(FacilityStatus) if word == status.status), "other")
    notes = [*([status.description] if status.description else []), *status.notes]
    if known == "other":
        notes.insert(0, f"status {status.status!r}")
    planned = [
        Outage(
            name=one.name,
            start_at=one.start_at,
            end_at=one.end_at,
            description=one.description,
            status=one.status,
        )
        for one in outages
    ]
    return known, notes, planned


def allocations(projects: Iterable[ProjectHours]) -> list[Allocation]:
    """Node hours by account and kind of node, of the kinds that the facility says something about."""
    kinds: tuple[Literal["cpu", "gpu"], ...] = ("cpu", "gpu")
    return [
        Allocation(account=one.account, kind=kind, node_hours_given=hours.given, node_hours_used=hours.used)
        for one in projects
        for kind in kinds
        if (hours := one.cpu if kind == "cpu" else one.gpu) is not None
    ]


class Facility:
    """Asks and publishes. Keeps the allocations from one time of asking to the next."""

    def __init__(self, machine: str, word: FacilityWord, bus: Bus) -> None:
        self._machine = machine
        self._word = word
        self._bus = bus
        self._said: dict[str, str] = {}
        self._allocations: list[Allocation] | None = None
        self._allocations_at: datetime | None = None
        self._ask_again_at: datetime | None = None

    async def step(self) -> None:
        """One observation. Raises the bus's Transient errors; the API's make what was asked for unknown."""
        status: FacilityStatus = "unknown"
        notes: list[str] = []
        outages: list[Outage] = []
        why = ""
        try:
            answer = await self._word.facility_status()
            status, notes, outages = observed(answer, await self._word.planned_outages())
        except NacreError as error:
            why = str(error)
        self._tell("status", why)
        await self._ask_for_allocations(clock.now())
        seen = self._word.api_seen()
        event = FacilityObserved(
            at=clock.now(),
            by=self._bus.by,
            machine=self._machine,
            status=status,
            notes=notes,
            planned_outages=outages,
            unknown_because=why,
            allocations=self._allocations,
            allocations_at=self._allocations_at,
            api=None if seen is None else ApiSeen(**msgspec.structs.asdict(seen)),
        )
        await self._bus.publish(subjects.FACILITY_OBSERVED, self._machine, event)

    async def _ask_for_allocations(self, now: datetime) -> None:
        if self._ask_again_at is not None and now < self._ask_again_at:
            return
        try:
            self._allocations = allocations(await self._word.projects())
            self._allocations_at = now
        except NacreError as error:
            self._ask_again_at = now + ALLOCATIONS_AGAIN
            self._tell("allocations", str(error))
            if self._allocations_at is not None and now - self._allocations_at > ALLOCATIONS_HOLD:
                self._allocations = self._allocations_at = None
            return
        self._ask_again_at = now + ALLOCATIONS_EVERY
        self._tell("allocations", "")

    def _tell(self, what: str, why: str) -> None:
        """One log line when something begins to be unknown."""
        if why and why != self._said.get(what):
            log.warning("%s: the facility's %s: unknown: %s", self._machine, what, why)
        self._said[what] = why

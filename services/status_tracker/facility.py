"""The facility's own word on one machine: its status and planned outages, at a slow cadence of its own."""

import logging
from typing import get_args

from libs.bus.connection import Bus
from libs.events import subjects
from libs.events.messages import FacilityObserved, FacilityStatus, Outage
from libs.runtime import clock
from libs.runtime.errors import NacreError
from libs.slurm.facility import FacilityWord
from libs.slurm.replies import MachineStatus, PlannedOutage

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


class Facility:
    """Asks and publishes; keeps nothing."""

    def __init__(self, machine: str, client: FacilityWord, bus: Bus) -> None:
        self._machine = machine
        self._client = client
        self._bus = bus
        self._said = ""

    async def step(self) -> None:
        """One observation. Raises the bus's Transient errors; the API's make the status unknown."""
        status: FacilityStatus = "unknown"
        notes: list[str] = []
        outages: list[Outage] = []
        why = ""
        try:
            answer = await self._client.facility_status()
            status, notes, outages = observed(answer, await self._client.planned_outages())
        except NacreError as error:
            why = str(error)
        if why and why != self._said:
            log.warning("%s: the facility's status is unknown: %s", self._machine, why)
        self._said = why
        event = FacilityObserved(
            at=clock.now(),
            by=self._bus.by,
            machine=self._machine,
            status=status,
            notes=notes,
            planned_outages=outages,
            unknown_because=why,
        )
        await self._bus.publish(subjects.FACILITY_OBSERVED, self._machine, event)

"""The facility's own word on one machine: its status, planned outages, and what it gave us."""

import asyncio
from collections.abc import Callable
from typing import Protocol
from zoneinfo import ZoneInfo

from libs.runtime.errors import NacreError, Refused
from libs.slurm import account_replies, replies
from libs.slurm.account_replies import ProjectHours
from libs.slurm.replies import MachineStatus, PlannedOutage
from libs.slurm.tally import Seen
from libs.slurm.transport import ApiTransport


class FacilityWord(Protocol):
    """What a facility says, or that it does not; reads raise the tree's errors."""

    async def facility_status(self) -> MachineStatus:
        """The facility's word on this machine; status `unknown` where there is nobody to ask."""

    async def planned_outages(self) -> tuple[PlannedOutage, ...]:
        """Planned outages of this machine; empty where there is nobody to ask, beside a status `unknown`."""

    async def projects(self) -> tuple[ProjectHours, ...]:
        """Node hours given and used by account. Refused where there is nobody to ask: unknown is not none."""

    def api_seen(self) -> Seen | None:
        """What its API has been like lately, as seen from this process; None where there is none."""


class ApiFacility:
    """A FacilityWord by the Superfacility API. `told` hears each status, and `unknown` when there was none."""

    def __init__(self, machine: str, api: ApiTransport, zone: ZoneInfo) -> None:
        self._machine = machine
        self._api = api
        self._zone = zone
        self.told: Callable[[str], None] = _nobody

    async def facility_status(self) -> MachineStatus:
        """GET /status/{machine}; needs no token."""
        path = f"/status/{self._machine}"
        try:
            status = replies.machine_status(await self._api.get(path, signed=False), path)
        except NacreError:
            self.told("unknown")
            raise
        self.told(status.status)
        return status

    async def planned_outages(self) -> tuple[PlannedOutage, ...]:
        """GET /status/outages/planned/{machine}; needs no token."""
        path = f"/status/outages/planned/{self._machine}"
        return replies.planned_outages(await self._api.get(path, signed=False), path, self._zone)

    async def projects(self) -> tuple[ProjectHours, ...]:
        """GET /account/projects."""
        path = "/account/projects"
        return account_replies.projects(await self._api.get(path), path)

    def api_seen(self) -> Seen | None:
        """Every request of this process, whoever made it."""
        return self._api.tally.seen(asyncio.get_running_loop().time())


class NoFacility:
    """A FacilityWord where no facility can be asked: a machine of whose Slurm only the commands are at hand."""

    def __init__(self, machine: str) -> None:
        self._machine = machine

    async def facility_status(self) -> MachineStatus:
        """Unknown."""
        return MachineStatus(name=self._machine, status="unknown", description="no facility to ask: local commands")

    async def planned_outages(self) -> tuple[PlannedOutage, ...]:
        """None are known."""
        return ()

    async def projects(self) -> tuple[ProjectHours, ...]:
        """Not known."""
        raise Refused(f"{self._machine}: there is no facility to ask for its allocations")

    def api_seen(self) -> Seen | None:
        """There is none."""
        return None


def _nobody(_status: str) -> None:
    """Nobody listens yet."""

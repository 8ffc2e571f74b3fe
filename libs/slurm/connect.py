"""The right client for a machine of the site file: `async with connected(site, machine, share) as machine: ...`."""

import contextlib
import shutil
from collections.abc import AsyncIterator

import httpx
import msgspec

from libs.runtime.errors import Misconfigured
from libs.runtime.site import Site
from libs.slurm import local, superfacility
from libs.slurm.batch_queue import BatchQueue
from libs.slurm.endpoint import of_site
from libs.slurm.facility import FacilityWord, NoFacility
from libs.slurm.files import Files, LocalFiles
from libs.slurm.guarded import GuardedQueue
from libs.slurm.local import LocalQueue
from libs.slurm.machine_queue import MachineQueue
from libs.slurm.rate import RateShare

_PROGRAMS = ("sbatch", "squeue", "sacct", "scancel")


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """One machine: its batch queue, its facility's word, its files. They share connections, rate and token."""

    queue: MachineQueue
    facility: FacilityWord
    files: Files


@contextlib.asynccontextmanager
async def connected(
    site: Site, machine: str, share: float, transport: httpx.AsyncBaseTransport | None = None
) -> AsyncIterator[Machine]:
    """The machine by its `flavour`, for one process with its share (0 to 1) of the API's one rate.

    Nothing is asked before the first use. Misconfigured when the client's id or key cannot be read or used, or, for
    local commands, when they are not on PATH.
    """
    table = site.machine[machine]

    def guarded(queue: BatchQueue, flavour: str) -> GuardedQueue:
        return GuardedQueue(queue, machine=machine, flavour=flavour, user=table.user)

    if table.flavour == "local":
        environment = local.environment()
        missing = [name for name in _PROGRAMS if shutil.which(name, path=environment.get("PATH")) is None]
        if missing:
            raise Misconfigured(
                f"machine.{machine}: flavour local needs Slurm's commands; not on PATH: {', '.join(missing)}"
            )
        rate = RateShare(table.requests_per_s * share)
        queue = LocalQueue(environment, share=rate, concurrency=table.concurrency)
        yield Machine(
            queue=MachineQueue(machine, [guarded(queue, "local")]), facility=NoFacility(machine), files=LocalFiles()
        )
        return
    async with superfacility.connected(of_site(site, machine, share), transport) as client:
        ways = [guarded(client.commands, "command")]
        if table.flavour == "jobs":
            ways.insert(0, guarded(client, "jobs"))
        found = Machine(queue=MachineQueue(machine, ways), facility=client.facility, files=client.files)
        client.facility.told = found.queue.facility_says
        yield found

"""The batch queue through NERSC's Superfacility API v1.2, jobs endpoints; and the other sides of that API.

An effect leaves in exactly one request; its answer is accepted, refused or unclear, never guessed. A listing says by
itself whether it is complete. Sources: https://docs.nersc.gov/services/sfapi/, https://api.nersc.gov/api/v1.2.
"""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import httpx
import msgspec

from libs.runtime import clock
from libs.runtime.errors import Malformed, Misconfigured, NacreError
from libs.slurm import cut_lists, listings, programs, replies, rows, script
from libs.slurm.access import ApiClientKey
from libs.slurm.batch_queue import SCRIPT_LIMIT_BYTES, Listing, RecentTask
from libs.slurm.command import CommandQueue
from libs.slurm.errors import AnswerLost
from libs.slurm.facility import ApiFacility
from libs.slurm.files import ApiFiles
from libs.slurm.outcomes import Accepted, Outcome, Refusal, RefusalKind, Unclear
from libs.slurm.rate import RateShare
from libs.slurm.tasks import Tasks
from libs.slurm.transport import ApiTransport, Bounds, http_client

__all__ = ["Accepted", "Endpoint", "Listing", "Refusal", "SuperfacilityClient", "Unclear", "connected"]

_CANCELS_AT_ONCE = 8
# Questions for the rest of cut task lists, per listing.
_ASKED_FOR_CUT_LISTS = 20


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One machine behind one API: where, as whom, and the bounds. `time_zone` is the machine's (zoneinfo name).

    `rows_limit`: rows asked for at once; as many rows back means that there may be more. `max_array_size`: Slurm's
    MaxArraySize, below which every array task's index is. `task_poll_s` is the first
    pause before looking at a submission's task (they grow), `task_patience_s` how long it is followed before the
    outcome counts as unclear.
    """

    machine: str
    api_url: str
    token_url: str
    key: ApiClientKey
    user_agent: str
    time_zone: str = "UTC"
    rate_per_s: float = 1.0
    rows_limit: int = 20_000
    max_array_size: int = 1001
    task_poll_s: float = 1.0
    task_patience_s: float = 120.0
    bounds: Bounds = Bounds()


@contextlib.asynccontextmanager
async def connected(
    endpoint: Endpoint, transport: httpx.AsyncBaseTransport | None = None
) -> AsyncIterator["SuperfacilityClient"]:
    """A client with connections of its own, closed when left. Nothing is asked before the first use."""
    async with http_client(endpoint.user_agent, endpoint.bounds, transport) as http:
        yield SuperfacilityClient(endpoint, http)


class SuperfacilityClient:
    """A BatchQueue by the jobs endpoints.

    Beside it, over the same connections, rate and token: `commands`, the same queue by the command endpoint;
    `facility`, the facility's own word; `files`, small files over there.
    """

    def __init__(self, endpoint: Endpoint, http: httpx.AsyncClient) -> None:
        self._endpoint = endpoint
        try:
            self._zone = ZoneInfo(endpoint.time_zone)
        except (ZoneInfoNotFoundError, ValueError):
            raise Misconfigured(f"machine {endpoint.machine}: there is no time zone {endpoint.time_zone!r}") from None
        self._api = ApiTransport(
            http,
            api_url=endpoint.api_url,
            token_url=endpoint.token_url,
            key=endpoint.key,
            share=RateShare(endpoint.rate_per_s),
            bounds=endpoint.bounds,
        )
        self._path = f"/compute/jobs/{endpoint.machine}"
        self._tasks = Tasks(self._api, first_poll_s=endpoint.task_poll_s, patience_s=endpoint.task_patience_s)
        self.commands = CommandQueue(endpoint.machine, self._api, self._tasks)
        self.facility = ApiFacility(endpoint.machine, self._api, self._zone)
        self.files = ApiFiles(endpoint.machine, self._api)

    async def submit(self, batch_script: str) -> Outcome:
        """sbatch this script: one POST, never repeated, then its task followed. Unclear when anything was lost.

        Raises an error of the tree only when surely nothing left: no token, no connection, no turn, or HTTP 429.
        """
        if len(batch_script.encode()) > SCRIPT_LIMIT_BYTES:
            return Refusal(kind=RefusalKind.SCRIPT, text=f"the batch script is larger than {SCRIPT_LIMIT_BYTES} bytes")
        try:
            facts = script.facts(batch_script)
        except Malformed as error:
            return Refusal(kind=RefusalKind.SCRIPT, text=str(error))
        if facts.is_void(clock.now()):
            return Refusal(kind=RefusalKind.VOID, text=f"not submitted: it was past {facts.void_after}")
        return await self._effect("POST", self._path, form={"job": batch_script, "isPath": "false"})

    async def cancel(self, job_id: str) -> Outcome:
        """scancel one job or array task: one DELETE."""
        refused = programs.refused_id(job_id)
        return refused or await self._effect("DELETE", f"{self._path}/{job_id}", cancelling=job_id)

    async def cancel_all(self, job_ids: Iterable[str]) -> Mapping[str, Outcome]:
        """One DELETE for each id, some at once; the endpoint takes no more. Ids after a failure are not tried."""
        places = asyncio.Semaphore(_CANCELS_AT_ONCE)
        failed: list[NacreError] = []
        outcomes: dict[str, Outcome] = {}

        async def one(job_id: str) -> None:
            async with places:
                if failed:
                    return
                try:
                    outcomes[job_id] = await self.cancel(job_id)
                except NacreError as error:
                    failed.append(error)

        await asyncio.gather(*(one(job_id) for job_id in dict.fromkeys(job_ids)))
        if failed and not outcomes:
            raise failed[0]
        return outcomes

    async def listing(self, user: str, *, names: Iterable[str] = ()) -> Listing:
        """squeue, uncached. Without names it is one request, whatever the number of jobs; a task list that Slurm cut
        short is asked for task by task, in at most 20 more.
        """
        kwargs = [f"user={user}"]
        parts = [[f"name={','.join(part)}"] if part else [] for part in programs.in_parts(names)]
        return listings.joined([await self._ask([*kwargs, *part], user, sacct=False) for part in parts])

    async def accounting(
        self, user: str, *, since: datetime, job_ids: Iterable[str] = (), names: Iterable[str] = ()
    ) -> Listing:
        """sacct, uncached; asked for many ids or names in several requests."""
        window = [f"user={user}", f"starttime={since.astimezone(self._zone):%Y-%m-%dT%H:%M:%S}"]
        by_id = [[f"jobid={','.join(part)}"] for part in programs.in_parts(job_ids) if part]
        parts = by_id or [[f"name={','.join(part)}"] if part else [] for part in programs.in_parts(names)]
        return listings.joined([await self._ask([*window, *part], user, sacct=True) for part in parts])

    async def recent_tasks(self) -> tuple[RecentTask, ...]:
        """GET /tasks."""
        return await self._tasks.recent()

    async def _ask(self, kwargs: list[str], user: str, *, sacct: bool) -> Listing:
        listed_at = clock.now()
        parsed, faults = await self._rows(kwargs, sacct=sacct)
        if not (sacct or faults) and _only_cut(parsed):
            parsed = await self._made_whole(parsed, user)
        return listings.of(parsed, user=user, listed_at=listed_at, faults=faults)

    async def _rows(self, kwargs: list[str], *, sacct: bool) -> tuple[rows.Parsed, list[str]]:
        """Typed rows, and what is wrong with all of them together."""
        program = "sacct" if sacct else "squeue"
        limit = self._endpoint.rows_limit
        body = await self._api.get(
            self._path,
            {"index": 0, "limit": limit, "sacct": str(sacct).lower(), "cached": "false", "kwargs": kwargs},
        )
        try:
            raw = replies.queue_rows(body, program)
        except NacreError:
            self._api.tally.said_an_error("an error in HTTP 200")
            raise
        parsed = (rows.parse_sacct if sacct else rows.parse_squeue)(raw, self._zone)
        full = len(raw) >= limit
        return parsed, [f"{program} gave {len(raw)} rows, as many as asked for: there may be more"] if full else []

    async def _made_whole(self, parsed: rows.Parsed, user: str) -> rows.Parsed:
        """The rows with every cut task list made whole; a list that could not be stays a fault."""
        whole: list[rows.BatchJob] = []
        faults: list[str] = []
        left = _ASKED_FOR_CUT_LISTS
        for job in parsed.jobs:
            if job.indices is not None:
                whole.append(job)
                continue
            search = cut_lists.begun(job, parsed.jobs)
            while left and (tasks := cut_lists.next_tasks(search, self._endpoint.max_array_size)):
                left -= 1
                answer, wrong = await self._rows(
                    [f"user={user}", f"jobid={cut_lists.job_ids(search, tasks)}"], sacct=False
                )
                if wrong or not _only_cut(answer):
                    break
                search = cut_lists.continued(search, tasks, answer.jobs)
            if cut_lists.next_tasks(search, self._endpoint.max_array_size):
                faults.append(f"squeue row {job.array_job_id}: its list of array tasks was cut, and the rest not told")
                whole.append(job)
            else:
                whole += cut_lists.made_whole(search)
        return rows.Parsed(jobs=tuple(whole), faults=tuple(faults))

    async def _effect(
        self, method: str, path: str, form: dict[str, str] | None = None, cancelling: str = ""
    ) -> Outcome:
        task = await self._tasks.begun(method, path, form)
        if not isinstance(task, str):
            return task
        try:
            return await self._tasks.followed(task, functools.partial(replies.task_outcome, expected_job_id=cancelling))
        except AnswerLost as error:
            return Unclear(why=str(error), task_id=task)


def _only_cut(parsed: rows.Parsed) -> bool:
    """Whether cut task lists are all that is wrong with the rows."""
    return len(parsed.faults) == sum(row.indices is None for row in parsed.jobs)

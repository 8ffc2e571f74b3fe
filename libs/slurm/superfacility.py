"""The batch queue through NERSC's Superfacility API v1.2, jobs endpoints.

An effect leaves in exactly one request; its answer is accepted, refused or unclear, never guessed. A listing says by
itself whether it is complete. Sources: https://docs.nersc.gov/services/sfapi/, https://api.nersc.gov/api/v1.2.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from datetime import datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import httpx
import msgspec

from libs.runtime import clock
from libs.runtime.errors import Malformed, Misconfigured, NacreError, RateLimited
from libs.slurm import cut_lists, replies, rows
from libs.slurm.access import ApiClientKey
from libs.slurm.outcomes import Accepted, Outcome, Refusal, RefusalKind, Unclear, read_failure
from libs.slurm.rate import RateShare
from libs.slurm.tally import Seen
from libs.slurm.transport import NOT_AUTHENTICATED, Answer, AnswerLost, ApiTransport, Bounds, NotFound, http_client

__all__ = ["Accepted", "Endpoint", "Listing", "Refusal", "SuperfacilityClient", "Unclear", "connected"]

# The facility's own ceiling is not published; a script of ours has a few kB, so this only stops nonsense.
SCRIPT_LIMIT_BYTES = 1_000_000
# Ids or names in one request: about 8 kB of URL, below what web servers refuse.
_ASKED_AT_ONCE = 150
_TASK_POLL_LONGEST_S = 5.0
# A task that the API does not know may only be not known yet; so often in a row, it has vanished.
_VANISHED_AFTER = 3
_FAULTS_NAMED = 3
# Questions for the rest of cut task lists, per listing.
_ASKED_FOR_CUT_LISTS = 20


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One machine behind one API: where, as whom, and the bounds. `time_zone` is the machine's (zoneinfo name).

    `rows_limit`: rows asked for at once; as many rows back means that there may be more. `max_array_size`: Slurm's
    MaxArraySize, below which every array task's index is. `task_poll_s` is the first pause before looking at a
    submission's task (they grow), `task_patience_s` how long it is followed before the outcome counts as unclear.
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


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """What squeue or sacct showed. Only a `complete` one may be counted; `why_not` says what is wrong with another.

    `listed_at` is the instant before the request left: whatever Slurm took later need not be in it.
    """

    rows: tuple[rows.BatchJob, ...]
    complete: bool
    why_not: str
    listed_at: datetime


@contextlib.asynccontextmanager
async def connected(
    endpoint: Endpoint, transport: httpx.AsyncBaseTransport | None = None
) -> AsyncIterator["SuperfacilityClient"]:
    """A client with connections of its own, closed when left. Nothing is asked before the first use."""
    async with http_client(endpoint.user_agent, endpoint.bounds, transport) as http:
        yield SuperfacilityClient(endpoint, http)


class SuperfacilityClient:
    """One machine's batch queue. Reads raise the tree's errors; effects answer with an outcome."""

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

    def seen(self) -> Seen:
        """What the API has been like lately, as seen from here."""
        return self._api.tally.seen(asyncio.get_running_loop().time())

    async def submit(self, script: str) -> Outcome:
        """sbatch this script: one POST, never repeated, then its task followed. Unclear when anything was lost.

        Raises an error of the tree only when surely nothing left: no token, no connection, no turn, or HTTP 429.
        """
        if len(script.encode()) > SCRIPT_LIMIT_BYTES:
            return Refusal(kind=RefusalKind.SCRIPT, text=f"the batch script is larger than {SCRIPT_LIMIT_BYTES} bytes")
        return await self._effect("POST", self._jobs_path(), form={"job": script, "isPath": "false"})

    async def cancel(self, job_id: str) -> Outcome:
        """scancel one job (`16`) or array task (`16_3`); outcomes and errors as for submit.

        Ids may be reused after a slurmctld crash: whoever asks has just seen the name beside the id.
        """
        return await self._effect("DELETE", f"{self._jobs_path()}/{job_id}", cancelling=job_id)

    async def listing(self, user: str, *, names: Iterable[str] = ()) -> Listing:
        """squeue of all live batch jobs of `user`, or of those with such names; uncached.

        A failure raises, it never lists nothing. Without names it is one request, whatever the number of jobs; a task
        list that Slurm cut short is asked for task by task, in at most 20 more.
        """
        return await self._ask_in_parts([f"user={user}"], "name", list(names), user, sacct=False)

    async def accounting(
        self, user: str, *, since: datetime, job_ids: Iterable[str] = (), names: Iterable[str] = ()
    ) -> Listing:
        """sacct of the batch jobs of `user` since an instant: all, or only those ids or names (not both).

        Asked for many in several requests. By name or user alone sacct leaves out what was never eligible (held or
        throttled array tasks); by id it shows them. An array task cancelled out of a pending block is in neither.
        """
        window = [f"user={user}", f"starttime={since.astimezone(self._zone):%Y-%m-%dT%H:%M:%S}"]
        column, asked = ("jobid", list(job_ids)) if job_ids else ("name", list(names))
        return await self._ask_in_parts(window, column, asked, user, sacct=True)

    async def facility_status(self) -> replies.MachineStatus:
        """The facility's word on this machine; needs no token."""
        path = f"/status/{self._endpoint.machine}"
        return replies.machine_status(await self._api.get(path, signed=False), path)

    async def planned_outages(self) -> tuple[replies.PlannedOutage, ...]:
        """Planned outages of this machine; needs no token."""
        path = f"/status/outages/planned/{self._endpoint.machine}"
        return replies.planned_outages(await self._api.get(path, signed=False), path, self._zone)

    def _jobs_path(self) -> str:
        return f"/compute/jobs/{self._endpoint.machine}"

    async def _ask_in_parts(
        self, kwargs: list[str], column: str, asked: list[str], user: str, *, sacct: bool
    ) -> Listing:
        if not asked:
            return await self._ask(kwargs, user, sacct=sacct)
        starts = range(0, len(asked), _ASKED_AT_ONCE)
        filters = [f"{column}={','.join(asked[start : start + _ASKED_AT_ONCE])}" for start in starts]
        parts = [await self._ask([*kwargs, one], user, sacct=sacct) for one in filters]
        return Listing(
            rows=tuple(row for part in parts for row in part.rows),
            complete=all(part.complete for part in parts),
            why_not="; ".join(part.why_not for part in parts if part.why_not)[:1000],
            listed_at=min(part.listed_at for part in parts),
        )

    async def _ask(self, kwargs: list[str], user: str, *, sacct: bool) -> Listing:
        listed_at = clock.now()
        parsed = await self._rows(kwargs, sacct=sacct)
        faults = list(parsed.faults)
        mine = [row for row in parsed.jobs if row.user == user]
        if faults and not sacct and _only_cut(parsed):
            mine, faults = await self._made_whole(mine, user)
        return Listing(rows=tuple(mine), complete=not faults, why_not=_shortened(faults), listed_at=listed_at)

    async def _rows(self, kwargs: list[str], *, sacct: bool) -> rows.Parsed:
        program = "sacct" if sacct else "squeue"
        limit = self._endpoint.rows_limit
        body = await self._api.get(
            self._jobs_path(),
            {"index": 0, "limit": limit, "sacct": str(sacct).lower(), "cached": "false", "kwargs": kwargs},
        )
        try:
            raw = replies.queue_rows(body, program)
        except NacreError:
            self._api.tally.said_an_error("an error in HTTP 200")
            raise
        parsed = (rows.parse_sacct if sacct else rows.parse_squeue)(raw, self._zone)
        if len(raw) >= limit:
            more = f"{program} gave {len(raw)} rows, as many as asked for: there may be more"
            return msgspec.structs.replace(parsed, faults=(more, *parsed.faults))
        return parsed

    async def _made_whole(self, jobs: list[rows.BatchJob], user: str) -> tuple[list[rows.BatchJob], list[str]]:
        """Rows with every cut task list made whole, and the faults that are left."""
        whole: list[rows.BatchJob] = []
        faults: list[str] = []
        left = _ASKED_FOR_CUT_LISTS
        for job in jobs:
            if job.indices is not None:
                whole.append(job)
                continue
            search = cut_lists.begun(job, jobs)
            while left and (tasks := cut_lists.next_tasks(search, self._endpoint.max_array_size)):
                left -= 1
                ids = f"jobid={cut_lists.job_ids(search, tasks)}"
                answer = await self._rows([f"user={user}", ids], sacct=False)
                if not _only_cut(answer):
                    return jobs, [f"squeue row {job.array_job_id}: its cut task list: {answer.faults[0]}"]
                search = cut_lists.continued(search, tasks, answer.jobs)
            if cut_lists.next_tasks(search, self._endpoint.max_array_size):
                faults.append(
                    f"squeue row {job.array_job_id}: its task list was cut, and the rest is too long to ask for"
                )
                whole.append(job)
            else:
                whole += cut_lists.made_whole(search)
        return whole, faults

    async def _effect(
        self, method: str, path: str, form: dict[str, str] | None = None, cancelling: str = ""
    ) -> Outcome:
        token = await self._api.token()
        try:
            answer = await self._api.effect(method, path, token, form)
        except (AnswerLost, Malformed) as error:
            return Unclear(why=str(error))
        what = f"{method} {path}"
        refused = _refused_by_status(answer, what)
        if refused is not None:
            return refused
        try:
            task = replies.posted_task(answer.body, what)
        except Malformed as error:
            return Unclear(why=str(error))
        return await self._follow(task, cancelling) if isinstance(task, str) else task

    async def _follow(self, task_id: str, cancelling: str) -> Outcome:
        """Poll the task until it ends, vanishes, or the patience is over. A failed poll only costs its time."""
        loop = asyncio.get_running_loop()
        path = f"/tasks/{task_id}"
        deadline_s = loop.time() + self._endpoint.task_patience_s
        pause_s, unknown_in_a_row, trouble = self._endpoint.task_poll_s, 0, "it still runs"
        while loop.time() + pause_s < deadline_s:
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 1.5, _TASK_POLL_LONGEST_S)
            try:
                body = await self._api.get(path)
                outcome = replies.task_outcome(body, path, cancelling)
            except NotFound as error:
                unknown_in_a_row += 1
                if unknown_in_a_row >= _VANISHED_AFTER:
                    return Unclear(why=f"the task vanished before its end was seen: {error}")
                trouble = str(error)
                continue
            except NacreError as error:
                trouble = str(error)
                continue
            if outcome is not None:
                return outcome
            unknown_in_a_row, trouble = 0, "it still runs"
        return Unclear(why=f"{path}: not seen to end in {self._endpoint.task_patience_s:.0f} s: {trouble}")


def _only_cut(parsed: rows.Parsed) -> bool:
    """Whether cut task lists are all that is wrong with the rows."""
    return len(parsed.faults) == sum(row.indices is None for row in parsed.jobs)


def _shortened(faults: list[str]) -> str:
    more = len(faults) - _FAULTS_NAMED
    return "; ".join(faults[:_FAULTS_NAMED]) + (f"; and {more} more" if more > 0 else "")


def _refused_by_status(answer: Answer, what: str) -> Refusal | Unclear | None:
    """What the HTTP status of an answer to an effect means; None when it is 2xx. Raises RateLimited for 429."""
    status, detail = answer.status, answer.detail()
    text = f"{what}: HTTP {status}{': ' + detail if detail else ''}"
    if httpx.codes.is_success(status):
        return None
    if status == httpx.codes.TOO_MANY_REQUESTS:
        raise RateLimited(text, answer.retry_after_s)
    if status in NOT_AUTHENTICATED:
        return Refusal(kind=RefusalKind.AUTHENTICATION, text=text)
    if httpx.codes.is_client_error(status) and status != httpx.codes.REQUEST_TIMEOUT:
        read = read_failure(detail)
        return Refusal(kind=read.kind if isinstance(read, Refusal) else RefusalKind.OTHER, text=text)
    # A gateway's 5xx says nothing about what is behind it: a 504 after sbatch took the job is the classic.
    return Unclear(why=text)

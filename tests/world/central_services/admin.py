"""The admin port: what the people and databases of ALICE do to the task queue, as JSON over HTTP."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tests.world.central_services.http_json import BadRequest, Body, application, read_body, route
from tests.world.central_services.task_queue import Limits, TaskQueue, UnknownCe

_JOBS_MAX = 100_000
_RUN_MAX_S = 7 * 86400
# The least that agrees with the recordings, where a site offering 60 s gets none of the jobs.
_TTL_DEFAULT_S = 60


class Admin:
    """POST /grid_jobs, /lock, /unlock, /limits; GET /counts, /ledger."""

    def __init__(self, tasks: TaskQueue, *, run_default_s: float) -> None:
        self._tasks = tasks
        self._run_default_s = run_default_s

    def application(self) -> Starlette:
        return application(
            [
                route("/grid_jobs", "POST", self._add),
                route("/lock", "POST", self._lock),
                route("/unlock", "POST", self._unlock),
                route("/limits", "POST", self._limits),
                route("/counts", "GET", self._counts),
                route("/ledger", "GET", self._ledger),
            ]
        )

    def _resolve(self, name: str) -> str:
        try:
            return self._tasks.resolve(name)
        except UnknownCe as error:
            raise BadRequest(str(error), 404) from error

    def _ce(self, body: Body) -> str:
        return self._resolve(body.text("ce"))

    async def _add(self, request: Request) -> Response:
        body = await read_body(request, "ce", "count", "run_s", "ttl_s", "cores")
        ids = self._tasks.add_grid_jobs(
            self._ce(body),
            body.integer("count", least=1, most=_JOBS_MAX),
            run_s=body.number("run_s", most=_RUN_MAX_S, default=self._run_default_s),
            ttl_s=body.integer("ttl_s", least=1, most=_RUN_MAX_S, default=_TTL_DEFAULT_S),
            cores=body.integer("cores", least=1, most=1024, default=1),
        )
        return JSONResponse({"grid_job_ids": ids})

    async def _lock(self, request: Request) -> Response:
        return await self._set_lock(request, True)

    async def _unlock(self, request: Request) -> Response:
        return await self._set_lock(request, False)

    async def _set_lock(self, request: Request, locked: bool) -> Response:
        ce = self._ce(await read_body(request, "ce"))
        self._tasks.set_lock(ce, locked)
        return JSONResponse({"ce": ce, "locked": locked})

    async def _limits(self, request: Request) -> Response:
        body = await read_body(request, "ce", "max_jobs", "max_queued")
        ce = self._ce(body)
        limits = Limits(body.limit("max_jobs", most=(1 << 31) - 1), body.limit("max_queued", most=(1 << 31) - 1))
        self._tasks.set_limits(ce, limits)
        return JSONResponse({"ce": ce, "max_jobs": limits.max_jobs, "max_queued": limits.max_queued})

    async def _counts(self, request: Request) -> Response:
        name = request.query_params.get("ce")
        return JSONResponse(self._tasks.counts(self._resolve(name) if name is not None else None))

    async def _ledger(self, _request: Request) -> Response:
        return JSONResponse(self._tasks.ledger())

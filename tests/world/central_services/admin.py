"""The admin port: what the people and databases of ALICE do to the task queue, as JSON over HTTP."""

from collections.abc import Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tests.world.central_services.broker import Broker
from tests.world.central_services.faults import COUNT_MAX, LOGGED_MAX, BadFault, Fault, Faults, Log
from tests.world.central_services.http_json import BadRequest, Body, application, read_body, route
from tests.world.central_services.site_config import SECTIONS, BadSiteConfig, SiteConfig
from tests.world.central_services.task_queue import Limits, Needs, TaskQueue, UnknownCe

_JOBS_MAX = 100_000
_AGENTS_MAX = 500
_RUN_MAX_S = 7 * 86400
_DISK_MAX_KB = 1 << 40
_LIMIT_MAX = (1 << 31) - 1
_DELAY_MAX_S = 3600
_LIMIT_ATTRIBUTES = ("maxjobs", "maxqueuedjobs")
# The least that agrees with the recordings, where a site offering 60 s gets none of the jobs.
_TTL_DEFAULT_S = 60


class Admin:
    """Grid jobs, locks, limits, the site's configuration, faults; counts, ledger and log.

    POST /grid_jobs {count, ce?, run_s?, ttl_s?, cores?, user?, partition?, sites?, no_ces?, disk_kb?} (no ce: any)
    POST /lock, /unlock {ce}; /limits {ce, max_jobs, max_queued} (null: not set)
    POST /site_config {section: merge patch}; GET /site_config
    POST /_faults {kind, request?, count?, delay_s?, text?}; GET, DELETE /_faults (what is still to happen)
    POST /takes {ce, agents}: each of these job agents (of a Slurm that runs no scripts) takes a waiting grid job
    POST /returns {agents}: the grid jobs that these hold wait again, as of agents that fell silent
    GET /counts[?ce=], /ledger, /_log[?limit=]
    """

    def __init__(
        self,
        tasks: TaskQueue,
        broker: Broker,
        config: SiteConfig,
        faults: Faults,
        log: Log,
        *,
        run_default_s: float,
        user: str,
    ) -> None:
        self._tasks = tasks
        self._broker = broker
        self._config = config
        self._pending = faults
        self._requests = log
        self._run_default_s = run_default_s
        self._user = user

    def application(self) -> Starlette:
        return application(
            [
                route("/grid_jobs", "POST", self._add),
                route("/takes", "POST", self._take),
                route("/returns", "POST", self._give_back),
                route("/lock", "POST", self._lock),
                route("/unlock", "POST", self._unlock),
                route("/limits", "POST", self._limits),
                route("/site_config", "POST", self._change_site_config),
                route("/site_config", "GET", self._site_config),
                route("/_faults", "POST", self._order_fault),
                route("/_faults", "GET", self._faults),
                route("/_faults", "DELETE", self._clear_faults),
                route("/_log", "GET", self._log),
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
        known = ("ce", "count", "run_s", "ttl_s", "cores", "user", "partition", "sites", "no_ces", "disk_kb")
        body = await read_body(request, *known)
        ce = body.text("ce", default="")
        needs = Needs(
            user=body.name("user", default=self._user),
            ttl_s=body.integer("ttl_s", least=1, most=_RUN_MAX_S, default=_TTL_DEFAULT_S),
            cores=body.integer("cores", least=1, most=1024, default=1),
            partition=body.name("partition", default="%"),
            sites=body.names("sites"),
            no_ces=[self._resolve(name) for name in body.names("no_ces")],
            disk_kb=body.integer("disk_kb", least=0, most=_DISK_MAX_KB, default=0),
        )
        ids = self._tasks.add_grid_jobs(
            self._resolve(ce) if ce else "",
            body.integer("count", least=1, most=_JOBS_MAX),
            needs,
            run_s=body.number("run_s", most=_RUN_MAX_S, default=self._run_default_s),
        )
        return JSONResponse({"grid_job_ids": ids})

    async def _take(self, request: Request) -> Response:
        body = await read_body(request, "ce", "agents")
        ce, agents = self._ce(body), body.names("agents", most=_AGENTS_MAX)
        taken = [self._broker.match(agent, "", ce) for agent in agents]
        return JSONResponse({"taken": [one.grid_job_id if one else None for one in taken]})

    async def _give_back(self, request: Request) -> Response:
        agents = (await read_body(request, "agents")).names("agents", most=_AGENTS_MAX)
        return JSONResponse({"returned": sum(self._tasks.give_back(agent) for agent in agents)})

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
        limits = Limits(body.limit("max_jobs", most=_LIMIT_MAX), body.limit("max_queued", most=_LIMIT_MAX))
        self._tasks.set_limits(ce, limits)
        short = ce.rpartition("::")[2]
        if short in self._config.document["ces"]:
            self._config.change({"ces": {short: limit_attributes(limits)}})
        return JSONResponse({"ce": ce, "max_jobs": limits.max_jobs, "max_queued": limits.max_queued})

    async def _change_site_config(self, request: Request) -> Response:
        patch = (await read_body(request, *SECTIONS)).values
        try:
            self._config.change(patch)
        except BadSiteConfig as error:
            raise BadRequest(str(error)) from error
        self._optimize(patch.get("ces", {}))
        return JSONResponse(self._config.document)

    def _optimize(self, ces: Mapping[str, Any]) -> None:
        """What the central optimizer does: CEs and limits of the configuration become the task queue's."""
        for short, attributes in ces.items():
            if attributes is None:
                continue
            full = f"ALICE::{self._config.site}::{short}"
            entry = self._config.document["ces"][short]
            limits = Limits(*(_as_limit(entry.get(name)) for name in _LIMIT_ATTRIBUTES))
            if not self._tasks.add_ce(full, limits) and {name.lower() for name in attributes} & {*_LIMIT_ATTRIBUTES}:
                self._tasks.set_limits(full, limits)

    async def _site_config(self, _request: Request) -> Response:
        return JSONResponse(self._config.document)

    async def _order_fault(self, request: Request) -> Response:
        body = await read_body(request, "kind", "request", "count", "delay_s", "text")
        fault = Fault(
            kind=body.text("kind"),
            request=body.text("request", default=""),
            left=body.integer("count", least=1, most=COUNT_MAX, default=1),
            delay_s=body.number("delay_s", most=_DELAY_MAX_S, default=1.0 if body.text("kind") == "slow" else 0.0),
            text=body.text("text", default=""),
        )
        try:
            return JSONResponse(self._pending.order(fault).shown())
        except BadFault as error:
            raise BadRequest(str(error)) from error

    async def _faults(self, _request: Request) -> Response:
        return JSONResponse([fault.shown() for fault in self._pending.pending()])

    async def _clear_faults(self, _request: Request) -> Response:
        self._pending.clear()
        return JSONResponse([])

    async def _log(self, request: Request) -> Response:
        limit = request.query_params.get("limit", str(LOGGED_MAX))
        if not limit.isdecimal() or len(limit) > len(str(LOGGED_MAX)):
            raise BadRequest(f"'limit' must be a number up to {LOGGED_MAX}")
        return JSONResponse(self._requests.last(int(limit)))

    async def _counts(self, request: Request) -> Response:
        name = request.query_params.get("ce")
        return JSONResponse(self._tasks.counts(self._resolve(name) if name is not None else None))

    async def _ledger(self, _request: Request) -> Response:
        return JSONResponse(self._tasks.ledger())


def limit_attributes(limits: Limits) -> dict[str, str | None]:
    """The attributes of a CE's entry that are its limits."""
    pairs = zip(_LIMIT_ATTRIBUTES, (limits.max_jobs, limits.max_queued), strict=True)
    return {name: None if limit is None else str(limit) for name, limit in pairs}


def _as_limit(value: object) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and int(value[:20]) <= _LIMIT_MAX:
        return int(value[:20])
    return None

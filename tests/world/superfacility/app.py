"""The HTTP application: NERSC's API v1.2 below /api/v1.2, the token endpoint, and the admin's paths.

Source of paths, parameters and shapes: https://api.nersc.gov/api/v1.2/openapi.json
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from tests.world.superfacility.compute import Compute
from tests.world.superfacility.facility import MACHINE, RESOURCES, Facility
from tests.world.superfacility.faults import Faults
from tests.world.superfacility.gate import API_PATH, Log
from tests.world.superfacility.ledger import Ledger
from tests.world.superfacility.oauth import Authority, InvalidClientError
from tests.world.superfacility.tasks import Tasks

Endpoint = Callable[[Request], Awaitable[Response]]
TOKEN_PATH = "/c2id/token"
NOT_FOUND = {"detail": "Not found"}


@dataclass(frozen=True)
class Parts:
    """What the endpoints work on."""

    base_url: str
    authority: Authority
    facility: Facility
    compute: Compute
    tasks: Tasks
    ledger: Ledger
    faults: Faults
    log: Log


def build_app(parts: Parts) -> Starlette:
    """Return the application without the gate."""
    api = [*_status_routes(parts), *_account_routes(parts), *_compute_routes(parts), *_task_routes(parts)]

    async def token(request: Request) -> Response:
        form = {name: str(value) for name, value in (await request.form()).items()}
        if form.get("grant_type") != "client_credentials":
            return JSONResponse({"error": "unsupported_grant_type"}, 400)
        try:
            return JSONResponse(parts.authority.token(form, token_url=parts.base_url + TOKEN_PATH))
        except InvalidClientError:
            text = "Client authentication failed"
            return JSONResponse({"error": "invalid_client", "error_description": text}, 401)

    return Starlette(
        routes=[Route(TOKEN_PATH, token, methods=["POST"]), *_admin_routes(parts), Mount(API_PATH, routes=api)],
        exception_handlers={404: _not_found, KeyError: _not_found},
    )


async def _not_found(_request: Request, _error: Exception) -> Response:
    return JSONResponse(NOT_FOUND, 404)


def _invalid(*where: str, text: str = "field required", kind: str = "value_error.missing") -> Response:
    return JSONResponse({"detail": [{"loc": list(where), "msg": text, "type": kind}]}, 422)


def _status_routes(parts: Parts) -> list[Route]:
    facility = parts.facility

    def listed(one: Callable[[str], Any]) -> Endpoint:
        async def answer(request: Request) -> Response:
            name = request.path_params.get("name")
            if name is not None:
                return JSONResponse(one(name)) if name in RESOURCES else JSONResponse(NOT_FOUND, 404)
            return JSONResponse([one(known) for known in RESOURCES])

        return answer

    table: list[tuple[str, Callable[[str], Any]]] = [
        ("/status/outages/planned", lambda name: facility.outages(name, planned=True)),
        ("/status/outages", lambda name: facility.outages(name, planned=False)),
        ("/status/notes", facility.notes),
        ("/status", facility.status),
    ]
    routes: list[Route] = []
    for path, one in table:
        routes += [Route(path, listed(one)), Route(f"{path}/{{name}}", listed(one))]
    return routes


def _account_routes(parts: Parts) -> list[Route]:
    async def answer(request: Request) -> Response:
        what = request.path_params.get("what", "")
        if what not in ("", "projects", "roles", "groups", "clients"):
            return JSONResponse(NOT_FOUND, 404)
        return JSONResponse(parts.facility.account(what))

    return [Route("/account/", answer), Route("/account/{what}", answer)]


def _compute_routes(parts: Parts) -> list[Route]:
    compute, tasks = parts.compute, parts.tasks

    async def jobs(request: Request) -> Response:
        query = request.query_params
        kwargs = query.getlist("kwargs")
        if "job_id" in request.path_params:
            kwargs = [f"jobid={request.path_params['job_id']}"]
        try:
            index, limit = int(query.get("index", "0")), int(query.get("limit", "0"))
        except ValueError:
            return _invalid("query", "index", text="value is not a valid integer", kind="type_error.integer")
        answer = await compute.jobs(
            kwargs,
            sacct=_flag(query.get("sacct"), default=False),
            cached=_flag(query.get("cached"), default=True),
            index=max(0, index),
            limit=max(0, limit),
        )
        return JSONResponse(answer)

    async def submit(request: Request) -> Response:
        form = await request.form()
        if missing := [name for name in ("job", "isPath") if name not in form]:
            return _invalid("body", missing[0])
        job, is_path = str(form["job"]), _flag(str(form["isPath"]), default=False)
        args = [str(word) for word in form.getlist("args")]
        return _begun(tasks.begin(lambda: compute.submit(job, is_path=is_path, args=args)).id)

    async def cancel(request: Request) -> Response:
        job_id = str(request.path_params["job_id"])
        return _begun(tasks.begin(lambda: compute.cancel(job_id)).id)

    async def command(request: Request) -> Response:
        form = await request.form()
        if "executable" not in form:
            return _invalid("body", "executable")
        executable = str(form["executable"])
        return _begun(tasks.begin(lambda: compute.command(executable)).id)

    return [
        Route("/compute/jobs/{machine}", _on_machine(jobs), methods=["GET"]),
        Route("/compute/jobs/{machine}", _on_machine(submit), methods=["POST"]),
        Route("/compute/jobs/{machine}/{job_id}", _on_machine(jobs), methods=["GET"]),
        Route("/compute/jobs/{machine}/{job_id}", _on_machine(cancel), methods=["DELETE"]),
        Route("/utilities/command/{machine}", _on_machine(command), methods=["POST"]),
    ]


def _on_machine(endpoint: Endpoint) -> Endpoint:
    async def checked(request: Request) -> Response:
        if request.path_params["machine"] != MACHINE:
            text = f"value is not a valid enumeration member; permitted: '{MACHINE}'"
            return _invalid("path", "machine", text=text, kind="type_error.enum")
        return await endpoint(request)

    return checked


def _begun(task_id: str) -> Response:
    return JSONResponse({"task_id": task_id, "status": "OK", "error": None})


def _flag(value: str | None, *, default: bool) -> bool:
    return default if value is None else value.lower() in ("true", "1", "yes", "on", "t", "y")


def _task_routes(parts: Parts) -> list[Route]:
    tasks = parts.tasks

    async def every(_request: Request) -> Response:
        return JSONResponse({"tasks": [task.row() for task in tasks.all()]})

    async def one(request: Request) -> Response:
        task = tasks.find(request.path_params["task_id"])
        if task is None:
            return JSONResponse(NOT_FOUND, 404)
        if request.method == "DELETE":
            tasks.cancel(task)
        return JSONResponse(task.row())

    return [Route("/tasks", every), Route("/tasks/{task_id}", one, methods=["GET", "DELETE"])]


def _admin_routes(parts: Parts) -> list[Route]:
    async def ledger(_request: Request) -> Response:
        try:
            return JSONResponse(await parts.ledger.rows())
        except RuntimeError as error:
            return JSONResponse({"error": str(error)}, 503)

    async def log(_request: Request) -> Response:
        return JSONResponse(list(parts.log))

    async def faults(request: Request) -> Response:
        if request.method == "DELETE":
            parts.faults.clear()
        if request.method == "POST":
            return await _taken(request, lambda asked: parts.faults.add(asked).row())
        return JSONResponse(parts.faults.rows())

    async def status(request: Request) -> Response:
        return await _taken(request, parts.facility.set_status)

    async def outages(request: Request) -> Response:
        if request.method == "DELETE":
            parts.facility.clear_outages()
            return JSONResponse([])
        return await _taken(request, parts.facility.add_outage)

    return [
        Route("/ledger", ledger),
        Route("/_log", log),
        Route("/_faults", faults, methods=["GET", "POST", "DELETE"]),
        Route("/_status", status, methods=["POST"]),
        Route("/_outages", outages, methods=["POST", "DELETE"]),
    ]


async def _taken(request: Request, take: Callable[[dict[str, Any]], Any]) -> Response:
    try:
        asked = await request.json()
        if not isinstance(asked, dict):
            raise ValueError("a JSON object is needed")
        return JSONResponse(take(asked))
    except (ValueError, TypeError) as error:
        return JSONResponse({"error": str(error)}, 400)

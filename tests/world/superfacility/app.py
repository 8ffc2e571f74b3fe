"""The HTTP application: NERSC's API v1.2 below /api/v1.2, the token endpoint, and the admin's paths.

Source of paths, parameters and shapes: https://api.nersc.gov/api/v1.2/openapi.json
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from tests.world.superfacility.admin import Admin
from tests.world.superfacility.compute import Compute
from tests.world.superfacility.compute_app import compute_routes, file_routes
from tests.world.superfacility.facility import RESOURCES, Facility
from tests.world.superfacility.faults import Faults
from tests.world.superfacility.files import Files
from tests.world.superfacility.gate import API_PATH, Log
from tests.world.superfacility.ledger import Ledger
from tests.world.superfacility.model.troubles import Troubles
from tests.world.superfacility.oauth import Authority, InvalidClientError
from tests.world.superfacility.replies import NOT_FOUND, Endpoint, flag
from tests.world.superfacility.tasks import Tasks

TOKEN_PATH = "/c2id/token"
DETAILS = {404: "Not found", 405: "Method Not Allowed", 400: "There was an error parsing the body"}


@dataclass(frozen=True)
class Parts:
    """What the endpoints work on; `troubles` is there when Slurm is the model."""

    base_url: str
    authority: Authority
    facility: Facility
    compute: Compute
    files: Files
    tasks: Tasks
    ledger: Ledger
    faults: Faults
    log: Log
    troubles: Troubles | None


def build_app(parts: Parts) -> Starlette:
    """Return the application without the gate."""
    api = [
        *_status_routes(parts.facility),
        *_account_routes(parts),
        *compute_routes(parts.compute, parts.tasks),
        *file_routes(parts.files),
        *_task_routes(parts.tasks),
        *_meta_routes(),
    ]

    async def token(request: Request) -> Response:
        form = {name: str(value) for name, value in (await request.form()).items()}
        if form.get("grant_type") != "client_credentials":
            return JSONResponse({"error": "unsupported_grant_type"}, 400)
        address = request.client.host if request.client else ""
        try:
            return JSONResponse(parts.authority.token(form, token_url=parts.base_url + TOKEN_PATH, address=address))
        except InvalidClientError:
            text = "Client authentication failed"
            return JSONResponse({"error": "invalid_client", "error_description": text}, 401)

    return Starlette(
        routes=[
            Route(TOKEN_PATH, token, methods=["POST"]),
            *Admin(
                faults=parts.faults, authority=parts.authority, facility=parts.facility, compute=parts.compute,
                ledger=parts.ledger, log=parts.log, troubles=parts.troubles,
            ).routes(),
            Mount(API_PATH, routes=api),
        ],
        exception_handlers={HTTPException: _refused},
    )  # fmt: skip


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"detail": DETAILS.get(error.status_code, error.detail)}, error.status_code)


def _status_routes(facility: Facility) -> list[Route]:
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
    facility = parts.facility

    async def user(request: Request) -> Response:
        asked = request.query_params.get("username", facility.user)
        return JSONResponse(
            facility.account("") if asked == facility.user else NOT_FOUND, 200 if asked == facility.user else 404
        )

    async def answer(request: Request) -> Response:
        what = request.path_params["what"]
        if what == "clients":
            return JSONResponse(facility.clients(parts.authority.clients.values()))
        if what not in ("projects", "roles", "groups"):
            return JSONResponse(NOT_FOUND, 404)
        return JSONResponse(facility.account(what))

    async def group(request: Request) -> Response:
        known = facility.account("groups")["groups"]
        found = [one for one in known if one["name"] == request.path_params["group"]]
        return JSONResponse(found[0] if found else NOT_FOUND, 200 if found else 404)

    return [Route("/account/", user), Route("/account/groups/{group}", group), Route("/account/{what}", answer)]


def _task_routes(tasks: Tasks) -> list[Route]:
    async def every(_request: Request) -> Response:
        return JSONResponse({"tasks": [task.row() for task in tasks.all()]})

    async def one(request: Request) -> Response:
        task = tasks.find(request.path_params["task_id"])
        if task is None:
            return JSONResponse(NOT_FOUND, 404)
        if tasks.settling(task):
            return JSONResponse({"detail": "Internal Server Error"}, 500)
        if request.method == "DELETE":
            tasks.cancel(task)
        return JSONResponse(task.row())

    return [Route("/tasks", every), Route("/tasks/{task_id}", one, methods=["GET", "DELETE"])]


def _meta_routes() -> list[Route]:
    async def changelog(_request: Request) -> Response:
        return JSONResponse([{"date": "2025-02-01", "change": "the world's facility follows the OpenAPI of this date"}])

    async def config(request: Request) -> Response:
        flag(request.query_params.get("private"), default=False)
        return JSONResponse([{"key": "compute.targets", "value": "perlmutter"}])

    return [Route("/meta/changelog", changelog), Route("/meta/config", config)]

"""The admin's paths, which no fault and no token touches: what to break, and what was seen.

GET /ledger, GET /_log; GET, POST, DELETE /_faults (see faults.KINDS); POST /_status; POST, DELETE /_outages;
GET, POST /_clients (expiry, source addresses, further clients); POST /_account (hours_given, hours_used);
POST /_slurm (the model only, see model.troubles).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.world.superfacility.compute import Compute
from tests.world.superfacility.facility import Facility
from tests.world.superfacility.faults import Faults
from tests.world.superfacility.ledger import Ledger
from tests.world.superfacility.model.troubles import Troubles
from tests.world.superfacility.oauth import Authority

Change = Callable[[Mapping[str, Any]], Awaitable[Any]]


def admin_routes(
    *,
    faults: Faults,
    authority: Authority,
    facility: Facility,
    compute: Compute,
    ledger: Ledger,
    log: Any,
    troubles: Troubles | None,
) -> list[Route]:
    """Return the admin's routes; a wrong request is 400 with {"error"}."""

    async def show_ledger(_request: Request) -> Response:
        try:
            return JSONResponse(await ledger.rows())
        except RuntimeError as error:
            return JSONResponse({"error": str(error)}, 503)

    async def show_log(_request: Request) -> Response:
        return JSONResponse(list(log))

    async def clear_faults() -> Any:
        faults.clear()
        return faults.rows()

    async def add_fault(asked: Mapping[str, Any]) -> Any:
        fault = faults.add(asked)
        if fault.kind == "stale_cache":
            fault.snapshot = await compute.snapshot()
        return fault.row()

    async def status(asked: Mapping[str, Any]) -> Any:
        return facility.set_status(asked)

    async def add_outage(asked: Mapping[str, Any]) -> Any:
        outage = facility.add_outage(asked)
        if troubles is not None and (window := facility.maintenance(outage)) is not None:
            troubles.outage(*window)
        return outage

    async def clear_outages() -> Any:
        facility.clear_outages()
        if troubles is not None:
            troubles.cancel_outages()
        return []

    async def clients() -> Any:
        return [asdict(client) for client in authority.clients.values()]

    async def change_client(asked: Mapping[str, Any]) -> Any:
        return authority.change(asked)

    async def account(asked: Mapping[str, Any]) -> Any:
        return facility.set_account(asked)

    async def slurm(asked: Mapping[str, Any]) -> Any:
        if troubles is None:
            raise ValueError("only the model of Slurm can be told what to do")
        return troubles.act(asked)

    async def rows() -> Any:
        return faults.rows()

    return [
        Route("/ledger", show_ledger),
        Route("/_log", show_log),
        _route("/_faults", get=rows, post=add_fault, delete=clear_faults),
        _route("/_status", post=status),
        _route("/_outages", post=add_outage, delete=clear_outages),
        _route("/_clients", get=clients, post=change_client),
        _route("/_account", post=account),
        _route("/_slurm", post=slurm),
    ]


def _route(
    path: str,
    *,
    post: Change,
    get: Callable[[], Awaitable[Any]] | None = None,
    delete: Callable[[], Awaitable[Any]] | None = None,
) -> Route:
    async def answer(request: Request) -> Response:
        if request.method == "DELETE" and delete is not None:
            return JSONResponse(await delete())
        if request.method == "GET" and get is not None:
            return JSONResponse(await get())
        try:
            asked = await request.json()
            if not isinstance(asked, dict):
                raise ValueError("a JSON object is needed")
            return JSONResponse(await post(asked))
        except (ValueError, TypeError, OverflowError) as error:
            return JSONResponse({"error": str(error)}, 400)

    given = [("GET", get), ("POST", post), ("DELETE", delete)]
    return Route(path, answer, methods=[method for method, endpoint in given if endpoint is not None])

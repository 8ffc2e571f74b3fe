"""The admin's paths, which no fault and no token touches: what to break, and what was seen.

GET /ledger, GET /_log; GET, POST, DELETE /_faults (see faults.KINDS); POST /_status; POST, DELETE /_outages;
GET, POST /_clients (expiry, source addresses, further clients); POST /_account (hours_given, hours_used);
POST /_slurm (the model only, see model.troubles).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
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


@dataclass(frozen=True)
class Admin:
    """What the admin may look at and change; `troubles` is there when Slurm is the model."""

    faults: Faults
    authority: Authority
    facility: Facility
    compute: Compute
    ledger: Ledger
    log: Iterable[dict[str, Any]]
    troubles: Troubles | None

    def routes(self) -> list[Route]:
        """Return the admin's routes; a wrong request is 400 with {"error"}."""
        return [
            Route("/ledger", self._show_ledger),
            Route("/_log", self._show_log),
            _route("/_faults", get=self._show_faults, post=self._add_fault, delete=self._clear_faults),
            _route("/_status", post=self._set_status),
            _route("/_outages", post=self._add_outage, delete=self._clear_outages),
            _route("/_clients", get=self._show_clients, post=self._change_client),
            _route("/_account", post=self._set_account),
            _route("/_slurm", post=self._trouble),
        ]

    async def _show_ledger(self, _request: Request) -> Response:
        try:
            return JSONResponse(await self.ledger.rows())
        except RuntimeError as error:
            return JSONResponse({"error": str(error)}, 503)

    async def _show_log(self, _request: Request) -> Response:
        return JSONResponse(list(self.log))

    async def _show_faults(self) -> Any:
        return self.faults.rows()

    async def _clear_faults(self) -> Any:
        self.faults.clear()
        return self.faults.rows()

    async def _add_fault(self, asked: Mapping[str, Any]) -> Any:
        snapshot = await self.compute.snapshot() if asked.get("kind") == "stale_cache" else None
        fault = self.faults.add(asked)
        fault.snapshot = snapshot
        return fault.row()

    async def _set_status(self, asked: Mapping[str, Any]) -> Any:
        return self.facility.set_status(asked)

    async def _add_outage(self, asked: Mapping[str, Any]) -> Any:
        outage = self.facility.add_outage(asked)
        if self.troubles is not None and (window := self.facility.maintenance(outage)) is not None:
            self.troubles.outage(*window)
        return outage

    async def _clear_outages(self) -> Any:
        self.facility.clear_outages()
        if self.troubles is not None:
            self.troubles.cancel_outages()
        return []

    async def _show_clients(self) -> Any:
        return [asdict(client) for client in self.authority.clients.values()]

    async def _change_client(self, asked: Mapping[str, Any]) -> Any:
        return self.authority.change(asked)

    async def _set_account(self, asked: Mapping[str, Any]) -> Any:
        return self.facility.set_account(asked)

    async def _trouble(self, asked: Mapping[str, Any]) -> Any:
        if self.troubles is None:
            raise ValueError("only the model of Slurm can be told what to do")
        return self.troubles.act(asked)


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

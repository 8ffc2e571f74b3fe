"""The agent port: where job agents get grid jobs, HTTPS with mutual TLS, for job agents' certificates only.

The real ones use requests of the Java protocol (GetMatchJob, SetJobStatus) for this; agents are no part of our CE.
"""

import asyncio
from typing import Any

from cryptography import x509
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from uvicorn.protocols.http.h11_impl import H11Protocol

from tests.world.central_services.broker import Broker
from tests.world.central_services.directory import JOB_AGENT_DN, slash_dn
from tests.world.central_services.http_json import BadRequest, Body, application, read_body, route
from tests.world.central_services.task_queue import NotHeld, TaskQueue, UnknownCe

_DATAGRAMS_MAX = 1 << 40
_ID_MAX = (1 << 63) - 1


async def _forbidden(scope: Any, receive: Any, send: Any) -> None:
    await JSONResponse({"error": "not a job agent's certificate"}, 403)(scope, receive, send)


class JobAgentsOnly(H11Protocol):
    """HTTP for connections whose certificate names a job agent; 403 for the others (TLS has checked the issuer)."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        certificate = x509.load_der_x509_certificate(tls.getpeercert(binary_form=True))
        if slash_dn(certificate) != JOB_AGENT_DN:
            self.app = _forbidden


class AgentPort:
    """POST /match, /done, /agents/report; all may be repeated, as answers get lost.

    `run` tells two processes with the same agent key apart; `datagrams_sent` is that run's total so far.
    """

    def __init__(self, tasks: TaskQueue, broker: Broker) -> None:
        self._tasks = tasks
        self._broker = broker

    def application(self) -> Starlette:
        return application(
            [
                route("/match", "POST", self._match),
                route("/done", "POST", self._done),
                route("/agents/report", "POST", self._report),
            ]
        )

    async def _match(self, request: Request) -> Response:
        body = await read_body(request, "agent", "run", "ce")
        agent, run = _who(body)
        try:
            ce = self._tasks.resolve(body.text("ce"))
        except UnknownCe as error:
            raise BadRequest(str(error), 404) from error
        taken = self._broker.match(agent, run, ce)
        if taken is None:
            return Response(status_code=204)
        return JSONResponse({"grid_job_id": taken.grid_job_id, "run_s": taken.run_s})

    async def _done(self, request: Request) -> Response:
        body = await read_body(request, "agent", "run", "grid_job_id")
        agent, run = _who(body)
        try:
            self._tasks.done(agent, run, body.integer("grid_job_id", least=0, most=_ID_MAX))
        except NotHeld as error:
            raise BadRequest(str(error), 409) from error
        return JSONResponse({})

    async def _report(self, request: Request) -> Response:
        body = await read_body(request, "agent", "run", "datagrams_sent")
        agent, run = _who(body)
        self._tasks.report(agent, run, body.integer("datagrams_sent", least=0, most=_DATAGRAMS_MAX))
        return JSONResponse({})


def _who(body: Body) -> tuple[str, str]:
    return body.text("agent"), body.text("run", default="")

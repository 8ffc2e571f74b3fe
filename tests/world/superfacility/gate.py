"""What every request passes: the log, the latency, the faults that were asked for, the token."""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.world.superfacility.connections import close_connection
from tests.world.superfacility.faults import BEFORE, Fault, Faults
from tests.world.superfacility.oauth import Authority
from tests.world.superfacility.tasks import Tasks

API_PATH = "/api/v1.2"
LOG_MAX = 20_000
Log = deque[dict[str, Any]]


@dataclass
class Reply:
    """A whole answer, kept back until it is known whether it may go out."""

    status: int = 500
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""

    async def take(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], list(message["headers"])
        elif message["type"] == "http.response.body":
            self.body += message.get("body", b"")

    async def send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.body})


def json_reply(status: int, body: Any, *headers: tuple[bytes, bytes]) -> Reply:
    """Return a JSON answer."""
    content = json.dumps(body).encode()
    length = (b"content-length", str(len(content)).encode())
    return Reply(status, [(b"content-type", b"application/json"), length, *headers], content)


class Gate:
    """Stands before the API; the admin paths (/_..., /ledger) pass untouched."""

    def __init__(
        self, app: ASGIApp, *, faults: Faults, authority: Authority, tasks: Tasks, log: Log, latency_s: float
    ) -> None:
        self._app = app
        self._faults = faults
        self._authority = authority
        self._tasks = tasks
        self._log = log
        self._latency_s = latency_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith("/_") or scope["path"] == "/ledger":
            await self._app(scope, receive, send)
            return
        path = scope["path"].removeprefix(API_PATH)
        fault = self._faults.take(scope["method"], path)
        entry = {
            "at": time.time(),
            "method": scope["method"],
            "path": path,
            "query": scope["query_string"].decode(),
            "status": None,
            "fault": fault.kind if fault else None,
        }
        self._log.append(entry)
        await asyncio.sleep(self._latency_s)
        reply = await self._answer(scope, receive, path, fault)
        if fault is not None:
            if fault.kind == "close_after":
                close_connection(scope)
                # The server must see the connection gone before we return, or it would answer 500.
                await asyncio.sleep(0.01)
                return
            reply = await self._spoil(fault, reply)
        entry["status"] = reply.status
        await reply.send(send)

    async def _answer(self, scope: Scope, receive: Receive, path: str, fault: Fault | None) -> Reply:
        if fault is not None and fault.kind in BEFORE:
            if fault.kind == "error_200":
                return json_reply(200, {"status": "ERROR", "task_id": "", "output": [], "error": fault.error})
            retry = [(b"retry-after", str(fault.retry_after_s).encode())] if fault.retry_after_s is not None else []
            return json_reply(fault.code, {"detail": fault.error}, *retry)
        if path != scope["path"] and path.split("/")[1:2] != ["status"]:
            headers = dict(scope["headers"])
            given = headers.get(b"authorization")
            if given is None or not self._authority.accepts(given.decode("latin-1")):
                return json_reply(403 if given is None else 401, {"detail": "Not authenticated"})
        reply = Reply()
        await self._app(scope, receive, reply.take)
        return reply

    async def _spoil(self, fault: Fault, reply: Reply) -> Reply:
        if fault.kind == "vanished_task":
            self._tasks.forget(str(json.loads(reply.body).get("task_id")))
        elif fault.kind in ("late_504", "slow"):
            await asyncio.sleep(fault.delay_s)
        if fault.kind == "late_504":
            return json_reply(504, {"detail": "Gateway Time-out"})
        return reply

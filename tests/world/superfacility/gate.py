"""What every request passes: the log, the latency, the faults that were asked for, the token."""

from __future__ import annotations

import asyncio
import json
import math
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
BODY_MAX_BYTES = 16 * 1024 * 1024
SILENCE_MAX_S = 3600.0
Log = deque[dict[str, Any]]


@dataclass
class Reply:
    """A whole answer, kept back until it is known whether it may go out."""

    status: int = 500
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    parts: list[bytes] = field(default_factory=list)

    @property
    def body(self) -> bytes:
        return b"".join(self.parts)

    async def take(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], list(message["headers"])
        elif message["type"] == "http.response.body":
            self.parts.append(message.get("body", b""))

    async def send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.body})


def json_reply(status: int, body: Any, *headers: tuple[bytes, bytes]) -> Reply:
    """Return a JSON answer."""
    return text_reply(status, json.dumps(body).encode(), *headers)


def text_reply(status: int, content: bytes, *headers: tuple[bytes, bytes]) -> Reply:
    """Return an answer whose content is said to be JSON."""
    length = (b"content-length", str(len(content)).encode())
    return Reply(status, [(b"content-type", b"application/json"), length, *headers], [content])


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
        self._late: set[asyncio.Task[None]] = set()

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
            "query": scope["query_string"].decode("latin-1"),
            "status": None,
            "fault": fault.kind if fault else None,
        }
        self._log.append(entry)
        try:
            await asyncio.sleep(self._latency_s)
            body = await read_body(receive)
        except ConnectionError:
            # The client is gone before it had said everything: nothing happens, no fault either.
            if fault is not None:
                self._faults.give_back(fault)
                entry["fault"] = None
            return
        reply = self._instead(scope, body, path, fault, entry)
        if reply is None:
            assert body is not None
            if fault is None:
                await self._app(scope, _once(body), _noting(entry, send))
                return
            reply = await self._execute({**scope, "nacre.fault": fault}, body)
        if fault is not None and not _happens(fault, reply):
            self._faults.give_back(fault)
            fault, entry["fault"] = None, None
        if fault is not None:
            if fault.kind in ("close_after", "lost_answer"):
                await _stay_silent(fault, receive)
                close_connection(scope)
                # The server must see the connection gone before we return, or it would answer 500.
                await asyncio.sleep(0.01)
                return
            reply = await self._spoil(fault, reply)
        entry["status"] = reply.status
        await reply.send(send)

    async def close(self) -> None:
        """Forget what was still to be executed late."""
        for task in list(self._late):
            task.cancel()
        await asyncio.gather(*self._late, return_exceptions=True)

    def _instead(
        self, scope: Scope, body: bytes | None, path: str, fault: Fault | None, entry: dict[str, Any]
    ) -> Reply | None:
        """Return what is answered in place of the application."""
        if fault is not None and fault.kind in BEFORE:
            if fault.kind == "error_200":
                return json_reply(200, error_shape(scope["method"], path, fault.error))
            wait = fault.retry_after_s
            retry = [(b"retry-after", str(math.ceil(wait)).encode())] if wait is not None else []
            return json_reply(fault.code, {"detail": fault.error}, *retry)
        if path != scope["path"] and path.split("/")[1:2] not in (["status"], ["meta"]):
            headers = dict(scope["headers"])
            given = headers.get(b"authorization")
            address = (scope.get("client") or ("127.0.0.1", 0))[0]
            if given is None or not self._authority.accepts(given.decode("latin-1"), address):
                return json_reply(403 if given is None else 401, {"detail": "Not authenticated"})
        if body is None:
            return json_reply(413, {"detail": "Request Entity Too Large"})
        if fault is not None and fault.kind == "late_execution":
            late = asyncio.create_task(self._execute_late(scope, body, fault.delay_s, entry))
            self._late.add(late)
            late.add_done_callback(self._late.discard)
            return json_reply(fault.code, {"detail": fault.error})
        return None

    async def _execute(self, scope: Scope, body: bytes) -> Reply:
        reply = Reply()
        await self._app(scope, _once(body), reply.take)
        return reply

    async def _execute_late(self, scope: Scope, body: bytes, delay_s: float, entry: dict[str, Any]) -> None:
        await asyncio.sleep(delay_s)
        entry["executed_at"] = time.time()
        await self._execute(scope, body)

    async def _spoil(self, fault: Fault, reply: Reply) -> Reply:
        if fault.kind == "vanished_task":
            self._tasks.forget(str(json.loads(reply.body).get("task_id")))
        elif fault.kind in ("late_504", "slow"):
            await asyncio.sleep(fault.delay_s)
        if fault.kind == "late_504":
            return json_reply(504, {"detail": "Gateway Time-out"})
        if fault.kind == "partial_listing":
            answer = json.loads(reply.body)
            kept = min(len(answer["output"]) - 1, int(len(answer["output"]) * fault.fraction))
            return json_reply(200, answer | {"output": answer["output"][:kept]})
        if fault.kind == "cut_body":
            return text_reply(reply.status, reply.body[: len(reply.body) // 2])
        return reply


def _once(body: bytes) -> Receive:
    """Return what gives a body that was read already, and after it the client's end."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return messages.pop() if messages else {"type": "http.disconnect"}

    return receive


def _noting(entry: dict[str, Any], send: Send) -> Send:
    """Return what sends an answer on and notes its status in the log."""

    async def noted(message: Message) -> None:
        if message["type"] == "http.response.start":
            entry["status"] = message["status"]
        await send(message)

    return noted


def _happens(fault: Fault, reply: Reply) -> bool:
    """Say whether a counted fault can happen: a refused request was not accepted, an empty listing not partial."""
    if fault.kind in BEFORE:
        return True
    if fault.kind == "late_execution":
        return reply.status == fault.code
    if reply.status >= 400:
        return False
    if fault.kind == "partial_listing":
        return bool(json.loads(reply.body).get("output"))
    if fault.kind == "vanished_task":
        return bool(json.loads(reply.body).get("task_id"))
    return True


async def _stay_silent(fault: Fault, receive: Receive) -> None:
    """Wait until the client gives up, or for the fault's delay where it has one."""
    if fault.kind != "lost_answer":
        return
    try:
        async with asyncio.timeout(fault.delay_s or SILENCE_MAX_S):
            while (await receive())["type"] != "http.disconnect":
                pass
    except TimeoutError:
        return


def error_shape(method: str, path: str, error: str) -> dict[str, Any]:
    """Return what an endpoint answers with HTTP 200 when it fails."""
    common = {"status": "ERROR", "error": error}
    parts = path.strip("/").split("/")
    if parts[:2] == ["utilities", "ls"]:
        return {**common, "entries": [], "file": None, "is_binary": False}
    if parts[:2] == ["utilities", "download"]:
        return {**common, "file": None, "is_binary": False}
    if parts[:2] == ["utilities", "upload"]:
        return {**common, "output": None}
    return {**common, "output": []} if method == "GET" else {**common, "task_id": ""}


async def read_body(receive: Receive) -> bytes | None:
    """Return the request's body, None when it is too large; raises ConnectionError when the client is gone."""
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionError
        size += len(message.get("body", b""))
        if size <= BODY_MAX_BYTES:
            pieces.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(pieces) if size <= BODY_MAX_BYTES else None

"""JSON over HTTP for the admin and agent ports: bounded bodies in, one JSON object out, errors as JSON, too."""

import asyncio
import contextlib
import json
import math
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

MAX_BODY_BYTES = 65536


class BadRequest(Exception):
    """A request that cannot be served as it is; becomes 400 or `status`."""

    def __init__(self, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.status = status


class Body:
    """A JSON object with typed access; raises BadRequest for what is missing, wrong or unknown."""

    def __init__(self, values: dict[str, Any], known: frozenset[str]) -> None:
        if unknown := sorted(set(values) - known):
            raise BadRequest(f"unknown field {unknown[0]!r}; known are {sorted(known)}")
        self._values = values

    @property
    def values(self) -> dict[str, Any]:
        """All fields as they were sent."""
        return dict(self._values)

    def name(self, name: str, *, default: str) -> str:
        """A text without commas, for lists are kept as texts with commas between."""
        value = self.text(name, default=default)
        if not value or "," in value:
            raise BadRequest(f"{name!r} must be a text without commas")
        return value

    def names(self, name: str, *, most: int = 100) -> list[str]:
        """A list of such texts, by default none."""
        values = self._values.get(name, [])
        if not isinstance(values, list) or len(values) > most:
            raise BadRequest(f"{name!r} must be a list of at most {most} texts")
        return [Body({name: value}, frozenset({name})).name(name, default="") for value in values]

    def text(self, name: str, *, default: str | None = None, longest: int = 200) -> str:
        value = self._values.get(name, default)
        if not isinstance(value, str) or not (default is not None or value) or len(value) > longest:
            raise BadRequest(f"{name!r} must be a text of at most {longest} characters")
        return value

    def integer(self, name: str, *, least: int, most: int, default: int | None = None) -> int:
        value = self._values.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise BadRequest(f"{name!r} must be an integer from {least} to {most}")
        return value

    def limit(self, name: str, *, most: int) -> int | None:
        """An integer, or null for `not set`; the field itself must be there."""
        if name in self._values and self._values[name] is None:
            return None
        return self.integer(name, least=0, most=most)

    def number(self, name: str, *, most: float, default: float) -> float:
        value = self._values.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise BadRequest(f"{name!r} must be a number")
        if not 0 <= value <= most:
            raise BadRequest(f"{name!r} must be from 0 to {most}")
        return float(value)


async def read_body(request: Request, *known: str) -> Body:
    """The JSON object of a request, with these fields and no others."""
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_BODY_BYTES:
            raise BadRequest(f"the body is longer than {MAX_BODY_BYTES} bytes", 413)
    try:
        values = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadRequest("the body is not JSON") from error
    if not isinstance(values, dict):
        raise BadRequest("the body is not a JSON object")
    return Body(values, frozenset(known))


def route(path: str, method: str, serve: Callable[[Request], Awaitable[Response]]) -> Route:
    return Route(path, serve, methods=[method])


def application(routes: list[Route]) -> Starlette:
    """An application of these routes that answers every failure as {"error": text}."""

    async def refuse(_request: Request, error: Exception) -> Response:
        if isinstance(error, BadRequest):
            return JSONResponse({"error": str(error)}, error.status)
        if isinstance(error, HTTPException):
            return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)
        return JSONResponse({"error": "internal error"}, 500)

    handled: dict[Any, Any] = {BadRequest: refuse, HTTPException: refuse, 500: refuse}
    return Starlette(routes=routes, exception_handlers=handled)


class QuietServer(uvicorn.Server):
    """A uvicorn that leaves signals to the program and tells when it is `ready`."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def server(app: Starlette, **options: Any) -> QuietServer:
    """A server for sockets that are open already; `options` as uvicorn.Config's."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=1,
        **options,
    )
    config.load()
    return QuietServer(config)

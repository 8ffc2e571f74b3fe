"""The small HTTP port of each service: /livez, /readyz, /metrics (Prometheus text)."""

import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import msgspec
import uvicorn

from libs.runtime.errors import Misconfigured
from libs.runtime.health import Health

Message = dict[str, Any]
log = logging.getLogger(__name__)


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn would take SIGTERM for itself; the service's own drain must see it.
        yield


def _application(health: Health, metrics: Callable[[], bytes]) -> Callable[..., Awaitable[None]]:
    def answer(path: str) -> tuple[int, bytes, bytes]:
        if path == "/livez":
            hanging = health.hanging()
            return (503 if hanging else 200), b"application/json", msgspec.json.encode({"hanging": hanging})
        if path == "/readyz":
            not_ready = health.not_ready()
            return (503 if not_ready else 200), b"application/json", msgspec.json.encode({"not_ready": not_ready})
        if path == "/metrics":
            return 200, b"text/plain; version=0.0.4; charset=utf-8", metrics()
        return 404, b"text/plain", b"try /livez, /readyz or /metrics\n"

    async def application(
        scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        if scope["type"] != "http":
            return
        status, content_type, body = answer(scope["path"])
        headers = [(b"content-type", content_type), (b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return application


@contextlib.asynccontextmanager
async def serving(listen: str, health: Health, metrics: Callable[[], bytes]) -> AsyncIterator[str]:
    """Serve on `host:port` (port 0: any) until left; gives the address in use. Misconfigured when it cannot bind."""
    import asyncio

    host, _, port = listen.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host.strip("[]"), int(port)))
        listener.listen(64)
    except OSError as error:
        listener.close()
        raise Misconfigured(f"HTTP port {listen} cannot be used: {error.strerror}; set NACRE_HTTP_LISTEN") from error
    configuration = uvicorn.Config(
        _application(health, metrics),
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        limit_concurrency=32,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=1,
    )
    server = _Server(configuration)
    task = asyncio.create_task(server.serve(sockets=[listener]), name="http_port")
    address = f"{listener.getsockname()[0]}:{listener.getsockname()[1]}"
    log.info("health and metrics on http://%s", address)
    try:
        yield address
    finally:
        server.should_exit = True
        await task
        listener.close()

"""A strict MonALISA: receives ApMon over UDP, stores what the genuine receiver would store, refuses the rest aloud.

    python -m tests.world.monalisa --port 8884 [--host 127.0.0.1] [--admin-port 0] [--password P]
        [--flood-control]

Ready line: {"host", "port", "admin_url"}. Admin HTTP:
    GET /stored[?limit=n]   {"datagrams", "stored", "forgotten", "kernel_drops", "refused": [{"reason", "count"}],
                            "flood_control": {"per_s", "dropped": {address: count}},
                            "results": [{"cluster", "node", "params": [[name, value]], "at", "sender", "instance",
                            "seq", "sha256"}]}: results in order of arrival; `datagrams` = stored + refused;
                            `forgotten` were stored and later let go for the bound; "NaN" and "Infinity" are
                            strings; `at` unix seconds; `sha256` of the datagram
    GET /counts             the same numbers, and "clusters": {name: stored}
    DELETE /stored          start again at nothing
    POST /flood_control     {"per_s": n}: so many datagrams per second of each source address from now on; 0: all

It differs from the genuine receiver in one thing: that one reads on beyond the end of a short datagram, into older
bytes of another sender. Here such a datagram is refused. Flood control is off unless asked for; what it drops is
counted as refused.
"""

import argparse
import contextlib
import json
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.world.monalisa.flood_control import DEFAULT_PER_S, MAX_PER_S
from tests.world.monalisa.store import MAX_RESULTS, KernelDrops, Store

MAX_BODY_BYTES = 1000
RECEIVE_BUFFER_BYTES = 32 * 2**20
SO_RCVBUFFORCE = 33


def bound_socket(host: str, port: int) -> socket.socket:
    """A UDP socket with the largest buffer that can be had."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
    sock.bind((host, port))
    return sock


def receive_for_ever(sock: socket.socket, store: Store) -> None:
    """A thread's work: the admin port must never hold up the receiving."""
    while True:
        datagram, address = sock.recvfrom(65_535)
        store.receive(datagram, f"{address[0]}:{address[1]}", time.time(), int(time.monotonic()))


def admin(store: Store, ready: dict[str, Any]) -> Starlette:
    """The admin HTTP port; prints the ready line once it can answer."""

    def stored(request: Request) -> Response:
        limit = request.query_params.get("limit", str(MAX_RESULTS))
        if not limit.isdecimal():
            return JSONResponse({"error": "limit must be a number"}, status_code=400)
        counts = store.counts()
        del counts["clusters"]
        return JSONResponse({**counts, "results": store.results(int(limit))})

    def counts(_: Request) -> Response:
        return JSONResponse(store.counts())

    def reset(_: Request) -> Response:
        store.reset()
        return Response(status_code=204)

    async def control_flood(request: Request) -> Response:
        per_s = await asked_rate(request)
        if per_s is None:
            return JSONResponse({"error": f'the body must be {{"per_s": n}}, n from 0 to {MAX_PER_S}'}, status_code=400)
        store.control_flood(per_s)
        return JSONResponse({"per_s": per_s})

    @contextlib.asynccontextmanager
    async def say_ready(_: Starlette) -> AsyncIterator[None]:
        print(json.dumps(ready), flush=True)
        yield

    routes = [
        Route("/stored", stored, methods=["GET"]),
        Route("/stored", reset, methods=["DELETE"]),
        Route("/counts", counts, methods=["GET"]),
        Route("/flood_control", control_flood, methods=["POST"]),
    ]
    return Starlette(routes=routes, lifespan=say_ready)


async def asked_rate(request: Request) -> int | None:
    """The rate in the body of POST /flood_control; None when it is something else."""
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_BODY_BYTES:
            return None
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        return None
    per_s = body.get("per_s") if isinstance(body, dict) and set(body) == {"per_s"} else None
    return per_s if type(per_s) is int and 0 <= per_s <= MAX_PER_S else None


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--port", type=int, required=True, help="UDP port; 0 = any free one")
    parser.add_argument("--host", default="127.0.0.1", help="address of both ports (default 127.0.0.1)")
    parser.add_argument("--admin-port", type=int, default=0, help="HTTP port; 0 = any free one (default)")
    parser.add_argument("--password", help="take only datagrams with this password in the header")
    parser.add_argument(
        "--flood-control",
        action="store_true",
        help=f"take {DEFAULT_PER_S} datagrams/s of each source address, as the genuine receiver by default",
    )
    options = parser.parse_args()
    sock = bound_socket(options.host, options.port)
    store = Store(options.password, KernelDrops(sock), DEFAULT_PER_S if options.flood_control else 0)
    http = socket.create_server(
        (options.host, options.admin_port), family=socket.AF_INET6 if ":" in options.host else socket.AF_INET
    )
    host = f"[{options.host}]" if ":" in options.host else options.host
    ready = {
        "host": options.host,
        "port": sock.getsockname()[1],
        "admin_url": f"http://{host}:{http.getsockname()[1]}",
    }
    threading.Thread(target=receive_for_ever, args=(sock, store), daemon=True).start()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(
            number, lambda *_: None
        )  # uvicorn stops at the signal, then raises it again for whoever is outside
    config = uvicorn.Config(admin(store, ready), log_level="warning", timeout_graceful_shutdown=2)
    uvicorn.Server(config).run(sockets=[http])


if __name__ == "__main__":
    main()

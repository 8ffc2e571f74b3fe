"""An HTTP protocol that lets the application close a client's connection without an answer."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.types import Scope
from uvicorn.protocols.http.h11_impl import H11Protocol

_transports: dict[tuple[str, int], asyncio.Transport] = {}


class ClosableProtocol(H11Protocol):
    """Remembers each open connection by the client's address."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._peer: tuple[str, int] = tuple(transport.get_extra_info("peername")[:2])
        _transports[self._peer] = transport
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        _transports.pop(self._peer, None)
        super().connection_lost(exc)


def close_connection(scope: Scope) -> None:
    """Close the connection that a request came by, at once."""
    client: Any = scope.get("client")
    transport = _transports.get(tuple(client)) if client else None
    if transport is not None:
        transport.abort()

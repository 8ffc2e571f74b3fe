"""What stands before pebble: passes everything on, and errs when it is told to.

POST /_faults {"path": "/order-plz", "kind": KIND, "count"?, "retry_after"?} spoils the next answers under that path:
`nonsense` (HTML with 200), `not_json` (500 without a body of ACME's), `empty_object`, `rate_limited` (a problem
document with Retry-After), `silence` (no answer for an hour), `endless` (a body without end). DELETE /_faults forgets.
POST /_issue {"kind": one of authority.KINDS, "subject"?: a common name} gives out certificates of the tests' authority
for the keys that pebble has certified; {"kind": "pebble"} gives pebble's own again. GET /_log: what was asked for.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.world.acme.authority import KINDS, Authority, name_of

CERTIFICATES = "/certZ/"
PEBBLE = "pebble"
SILENCE_S = 3600.0
METHODS = ["GET", "HEAD", "POST"]
PASSED = ("replay-nonce", "location", "link", "content-type", "retry-after", "cache-control")


@dataclass
class Fault:
    """Answers under `path` that are still to be spoilt."""

    path: str
    kind: str
    count: int = 1
    retry_after: str = ""


class Front:
    """One ASGI application before one pebble."""

    def __init__(self, url: str, ca: str, authority: Authority) -> None:
        self._http = httpx.AsyncClient(base_url=url, verify=ssl.create_default_context(cafile=ca), timeout=30)
        self._authority = authority
        self._faults: list[Fault] = []
        self._log: list[str] = []
        self._kind = PEBBLE
        self._subject = ""
        self.app = Starlette(
            routes=[
                Route("/_faults", self._change_faults, methods=["POST", "DELETE"]),
                Route("/_issue", self._change_issue, methods=["POST"]),
                Route("/_log", self._show_log),
                Route("/{path:path}", self._pass_on, methods=METHODS),
            ]
        )

    async def close(self) -> None:
        """Close the connections to pebble."""
        await self._http.aclose()

    async def _change_faults(self, request: Request) -> Response:
        if request.method == "DELETE":
            self._faults.clear()
        else:
            self._faults.append(Fault(**await request.json()))
        return JSONResponse({"faults": len(self._faults)})

    async def _change_issue(self, request: Request) -> Response:
        asked = await request.json()
        if asked["kind"] not in (PEBBLE, *KINDS):
            return JSONResponse({"error": f"kind is one of {PEBBLE}, {', '.join(KINDS)}"}, 400)
        self._kind, self._subject = asked["kind"], asked.get("subject", "")
        return JSONResponse(asked)

    async def _show_log(self, _request: Request) -> Response:
        return JSONResponse(self._log)

    async def _pass_on(self, request: Request) -> Response:
        path = request.url.path
        self._log.append(f"{request.method} {path}")
        for fault in self._faults:
            if path.startswith(fault.path):
                fault.count -= 1
                if not fault.count:
                    self._faults.remove(fault)
                return await _spoilt(fault)
        # pebble makes its URLs of the host that it was asked as.
        headers = {name: value for name, value in request.headers.items() if name in ("host", "content-type", "accept")}
        answer = await self._http.request(request.method, path, content=await request.body(), headers=headers)
        content = answer.content
        if path.startswith(CERTIFICATES) and answer.is_success and self._kind != PEBBLE:
            content = self._instead_of(content)
        kept = {name: value for name, value in answer.headers.multi_items() if name in PASSED}
        return Response(content, answer.status_code, kept)

    def _instead_of(self, chain_pem: bytes) -> bytes:
        leaf = x509.load_pem_x509_certificates(chain_pem)[0]
        key = leaf.public_key()
        assert isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey)
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        subject = name_of(self._subject) if self._subject else leaf.subject
        now = dt.datetime.now(dt.UTC)
        return self._authority.issue(
            key, subject, now, kind=self._kind, names=names.get_values_for_type(x509.DNSName)
        )  # fmt: skip


async def _spoilt(fault: Fault) -> Response:
    if fault.kind == "silence":
        await asyncio.sleep(SILENCE_S)
    if fault.kind == "nonsense":
        return HTMLResponse("<html>Welcome</html>")
    if fault.kind == "endless":
        return StreamingResponse(_endless(), media_type="application/json")
    if fault.kind == "empty_object":
        return JSONResponse({})
    if fault.kind == "rate_limited":
        problem: dict[str, Any] = {
            "type": "urn:ietf:params:acme:error:rateLimited", "detail": "too many certificates for this name",
        }  # fmt: skip
        retry = {"retry-after": fault.retry_after} if fault.retry_after else None
        return JSONResponse(problem, 429, retry, media_type="application/problem+json")
    return HTMLResponse("Internal Server Error", 500)


async def _endless() -> AsyncIterator[bytes]:
    while True:
        yield b" " * (1 << 20)
        await asyncio.sleep(0)

"""A listing's answer; a long one is sent in parts, so that one of 100,000 job records is never held as a whole."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tests.world.superfacility.commands import Pieces

# About a quarter of a megabyte of sacct's rows.
ROWS_PER_PART = 100
JSON = "application/json"


def listing_reply(rows: Sequence[Pieces]) -> Response:
    """Return {"status": "OK", "output": [row], "error": null}; the length of a long one is not said."""
    if len(rows) > ROWS_PER_PART:
        return LongReply(rows)
    return Response(b"".join(_parts(rows)), media_type=JSON)


class LongReply(Response):
    """An answer that goes out while it is being put together; its rows do not change meanwhile."""

    media_type = JSON

    def __init__(self, rows: Sequence[Pieces]) -> None:
        super().__init__()
        del self.headers["content-length"]
        self._rows = rows

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for part in _parts(self._rows):
            await send({"type": "http.response.body", "body": part, "more_body": True})
            # A client that reads as fast as we write would keep everyone else waiting.
            await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _parts(rows: Sequence[Pieces]) -> Iterator[bytes]:
    before = b'{"status":"OK","output":['
    for first in range(0, len(rows), ROWS_PER_PART):
        yield before + b",".join(map(b"".join, rows[first : first + ROWS_PER_PART]))
        before = b","
    yield (b"" if rows else before) + b'],"error":null}'

"""Orders from an authority that speaks ACME (RFC 8555), each in a process of its own.

The ACME library waits and asks in its own way, and is large: its process can be killed when the authority lets it wait,
and gives its memory back (acme_order.py).
"""

import asyncio
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import msgspec

from libs.runtime.errors import Malformed, Misconfigured, NacreError, Overloaded, RateLimited, Refused, Unreachable
from libs.runtime.file_work import FileWork
from libs.runtime.site.credentials import Acme
from services.cert_renewer import checks
from services.cert_renewer.checks import Pair
from services.cert_renewer.sources.requested import Pending

MODULE = "services.cert_renewer.sources.acme_order"
KILL_AFTER_S = 15.0

_KINDS: Mapping[str, type[NacreError]] = {
    "unreachable": Unreachable,
    "overloaded": Overloaded,
    "refused": Refused,
    "misconfigured": Misconfigured,
    "malformed": Malformed,
}


class _Answer(msgspec.Struct, frozen=True):
    """What the order's process says: a chain, or what went wrong."""

    chain_pem: str = ""
    kind: str = ""
    text: str = ""
    retry_after_s: float | None = None


class Ordered:
    """An ACME account, whose key is kept beside what is installed, and its orders."""

    makes = True

    def __init__(self, settings: Acme, pending: Pending, directory: Path, user_agent: str) -> None:
        self.place = settings.directory_url
        self.todo = (
            f"find out why {settings.directory_url} issues no good certificate (see `problem`), or install one by hand,"
        )
        self._settings = settings
        self._pending = pending
        self._account = directory / "acme"
        self._user_agent = user_agent
        self._files = FileWork(f"host certificate: {directory}")

    async def offered(self, now: datetime, *, due: bool, installed: Pair | None) -> Pair | None:
        """The result of an order, when one is due."""
        if not due:
            return None
        request = await self._files.run(self._pending.request)
        answer = await self._order(request.csr_pem)
        if answer.kind == "rate_limited":
            raise RateLimited(f"{self.place}: {answer.text}", answer.retry_after_s)
        if answer.kind:
            raise _KINDS.get(answer.kind, Malformed)(f"{self.place}: {answer.text}")
        return Pair(checks.parsed_chain(answer.chain_pem.encode(), self.place), request.key_pem, self.place)

    async def taken(self) -> None:
        """The next order is for a new key."""
        await self._files.run(self._pending.clear)

    async def _order(self, csr_pem: bytes) -> _Answer:
        """Run the order's process. Unreachable when it is not done in time, Overloaded when it dies."""
        settings = self._settings
        work = {
            "directory_url": settings.directory_url,
            "contact": settings.contact,
            "account_directory": str(self._account),
            "eab_key_id": settings.eab_key_id,
            "eab_key_file": str(settings.eab_key_file or ""),
            "http01_listen": settings.http01_listen,
            "ca": str(settings.ca or ""),
            "user_agent": self._user_agent,
            "patience_s": settings.patience_s,
            "csr_pem": csr_pem.decode(),
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", MODULE,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            async with asyncio.timeout(settings.patience_s + KILL_AFTER_S):
                said, complaint = await process.communicate(msgspec.json.encode(work))
        except TimeoutError:
            raise Unreachable(f"{self.place}: the order was not done in {settings.patience_s:g} s") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        try:
            return msgspec.json.decode(said, type=_Answer)
        except (msgspec.DecodeError, UnicodeDecodeError):
            last = complaint.decode(errors="replace").strip().rpartition("\n")[2][:200]
            raise Overloaded(f"{self.place}: the order's process ended with {process.returncode}: {last}") from None

"""Orders from an authority that speaks ACME (RFC 8555), each in a process of its own (apart/acme_order.py)."""

from datetime import datetime
from pathlib import Path

from libs.runtime.file_work import FileWork
from libs.runtime.site.credentials import Acme
from services.cert_renewer import checks
from services.cert_renewer.apart import process
from services.cert_renewer.apart.work import ACME_ORDER, Order
from services.cert_renewer.checks import Pair
from services.cert_renewer.sources.requested import Pending

KILL_AFTER_S = 15.0


class Ordered:
    """An ACME account, whose key is kept beside what is installed, and its orders."""

    makes = True

    def __init__(self, settings: Acme, pending: Pending, directory: Path, user_agent: str) -> None:
        self.place = settings.directory_url
        self.todo = f"the operator must find out why {self.place} issues no good certificate (see `problem`)"
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
        order = Order(self._settings, self._account, self._user_agent, request.csr_pem.decode())
        within_s = self._settings.patience_s + KILL_AFTER_S
        chain_pem = await process.made(ACME_ORDER, order, str, within_s=within_s, what=self.place)
        return Pair(checks.parsed_chain(chain_pem.encode(), self.place), request.key_pem, self.place)

    async def taken(self) -> None:
        """The next order is for a new key."""
        await self._files.run(self._pending.clear)

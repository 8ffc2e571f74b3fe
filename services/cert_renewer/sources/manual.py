"""A person signs our request: host.csr is put into a directory, and hostcert.pem awaited there."""

from datetime import datetime
from pathlib import Path

from libs.runtime.errors import Malformed
from libs.runtime.file_work import FileWork
from libs.runtime.secret_file import read_secret, replace_file
from services.cert_renewer import checks
from services.cert_renewer.checks import Pair
from services.cert_renewer.sources.requested import Pending, Request

REQUEST_NAME = "host.csr"
CERTIFICATE_NAME = "hostcert.pem"


class Manual:
    """Requests in a directory, and the certificates that come back."""

    makes = True

    def __init__(self, directory: Path, pending: Pending) -> None:
        self.place = str(directory)
        self.todo = (
            f"have {directory / REQUEST_NAME} signed, and the certificate with its chain put as {CERTIFICATE_NAME}"
        )
        self._directory = directory
        self._pending = pending
        self._files = FileWork(f"host certificate: {directory}")

    async def offered(self, now: datetime, *, due: bool, installed: Pair | None) -> Pair | None:
        """Put the request there when due; then the pair as soon as the certificate for it is there."""
        return await self._files.run(lambda: self._look(due, installed))

    async def taken(self) -> None:
        """The request is fulfilled; the certificate stays, it is the person's."""
        await self._files.run(self._forget)

    def _look(self, due: bool, installed: Pair | None) -> Pair | None:
        if not due and not self._pending.exists():
            return None
        request = self._pending.request()
        self._show(request)
        path = self._directory / CERTIFICATE_NAME
        if not path.exists():
            return None
        name = f"host certificate: {path}"
        chain = checks.parsed_chain(read_secret(path, "host certificate"), name)
        if request.is_for(chain[0]):
            return Pair(chain, request.key_pem, self.place)
        if installed is not None and chain[0] == installed.leaf:
            return None
        raise Malformed(f"{name} was not made for {self._directory / REQUEST_NAME}; have that one signed")

    def _show(self, request: Request) -> None:
        path = self._directory / REQUEST_NAME
        if not path.exists() or path.read_bytes() != request.csr_pem:
            replace_file(path, request.csr_pem, "signing request", mode=0o644)

    def _forget(self) -> None:
        self._pending.clear()
        (self._directory / REQUEST_NAME).unlink(missing_ok=True)

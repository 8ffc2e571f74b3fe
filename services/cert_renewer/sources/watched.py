"""A directory where somebody puts renewed pairs. Polled: no inotify crosses CFS or NFS."""

from datetime import datetime
from pathlib import Path

from libs.runtime.file_work import FileWork
from libs.runtime.secret_file import read_together
from services.cert_renewer import checks
from services.cert_renewer.checks import Pair

PAIR = ("hostcert.pem", "hostkey.pem")
HOST_TOKEN = ("tokencert.pem", "tokenkey.pem")


def read_pair(directory: Path, names: tuple[str, str]) -> Pair:
    """Certificate chain and key, both of one renewal. A NacreError names the file that is missing or unfit."""
    chain_pem, key_pem = read_together(
        [directory / name for name in names], ("host certificate", "host key"), private=(False, True)
    )
    return Pair(checks.parsed_chain(chain_pem, f"host certificate: {directory / names[0]}"), key_pem, str(directory))


class Watched:
    """Pairs of certificate and key under two fixed names in one directory."""

    makes = False

    def __init__(self, directory: Path, names: tuple[str, str], *, who: str) -> None:
        self.place = str(directory)
        self.todo = f"{who} must put a renewed {names[0]} and {names[1]} into {directory}"
        self._directory = directory
        self._names = names
        self._files = FileWork(f"host certificate: {directory}")

    async def offered(self, now: datetime, *, due: bool, installed: Pair | None) -> Pair | None:
        """What lies there now."""
        return await self._files.run(lambda: read_pair(self._directory, self._names))

    async def taken(self) -> None:
        """The files stay: they are not ours."""

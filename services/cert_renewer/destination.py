"""Where the worker nodes read what we write for them: a directory that is mounted here, or one behind the API."""

from pathlib import Path
from typing import Protocol

from libs.runtime import clock, secret_file
from libs.runtime.file_work import FileWork
from libs.runtime.site import Site
from services.cert_renewer.apart import process
from services.cert_renewer.apart.work import FACILITY, Put

FILE_MODE = 0o600
UPLOAD_WITHIN_S = 300.0
MOST_BYTES = 1 << 16


class Destination(Protocol):
    """A directory of small private files on the file system that the worker nodes share."""

    def place(self, name: str) -> str:
        """How a file is called in messages."""

    async def put(self, name: str, content: bytes) -> None:
        """Replace a file in one step; a NacreError when it cannot be, and the old one stays."""

    async def found(self, name: str) -> bytes | None:
        """What the file holds, empty when there is none; None when only the worker nodes can know."""


class Mounted:
    """The directory itself."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files = FileWork(f"worker nodes' directory {directory}")

    def place(self, name: str) -> str:
        """Its path."""
        return str(self._directory / name)

    async def put(self, name: str, content: bytes) -> None:
        """Write beside it, make durable, rename."""
        await self._files.run(lambda: self._put(self._directory / name, content))

    async def found(self, name: str) -> bytes:
        """Read it."""
        return await self._files.run(lambda: _read(self._directory / name))

    @staticmethod
    def _put(path: Path, content: bytes) -> None:
        secret_file.sweep(path, clock.now().timestamp())
        secret_file.replace_file(path, content, "worker nodes' file", mode=FILE_MODE)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MOST_BYTES)
    except FileNotFoundError:
        return b""


class Uploaded:
    """A directory on a machine, through its API (apart/facility.py)."""

    def __init__(self, site: Site, machine: str, directory: Path) -> None:
        self._site = site
        self._machine = machine
        self._directory = directory

    def place(self, name: str) -> str:
        """The machine and the path there."""
        return f"{self._machine}:{self._directory / name}"

    async def put(self, name: str, content: bytes) -> None:
        """Made private there, filled, and renamed into place."""
        put = Put(self._site, self._machine, str(self._directory / name), content)
        await process.made(FACILITY, put, type(None), within_s=UPLOAD_WITHIN_S, what=self.place(name))

    async def found(self, name: str) -> None:
        """Looking would cost a request each time: what was put there is there."""
        return None

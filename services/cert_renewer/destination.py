"""Where the worker nodes read what we write for them: a directory that is mounted here, or one behind the API."""

import contextlib
import secrets
from pathlib import Path
from typing import Protocol

from libs.runtime import clock, secret_file
from libs.runtime.errors import NacreError
from libs.runtime.file_work import FileWork
from libs.slurm.superfacility import SuperfacilityClient

FILE_MODE = 0o600
# Makes it private before it has any content, and sweeps what was never renamed; then, once it is whole, in its place.
_PREPARE = 'umask 077 && : > "$1" && find "$2" -maxdepth 1 -name "$3" -mmin +60 -delete'
_PUT_IN_PLACE = 'chmod 600 "$1" && sync "$1" && mv -f "$1" "$2"'
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
    """A directory on a machine, through its API: the file is made private there, filled, and renamed into place."""

    def __init__(self, client: SuperfacilityClient, machine: str, directory: Path) -> None:
        self._client = client
        self._machine = machine
        self._directory = directory

    def place(self, name: str) -> str:
        """The machine and the path there."""
        return f"{self._machine}:{self._directory / name}"

    async def put(self, name: str, content: bytes) -> None:
        """Two commands, with the upload between them."""
        path, fresh = self._directory / name, self._directory / f".{name}.{secrets.token_hex(6)}.new"
        await self._shell(_PREPARE, str(fresh), str(self._directory), f".{name}.*.new")
        try:
            await self._client.files.upload(str(fresh), content)
            await self._shell(_PUT_IN_PLACE, str(fresh), str(path))
        except NacreError:
            with contextlib.suppress(NacreError):
                await self._client.commands.repeatable(["rm", "-f", str(fresh)])
            raise

    async def found(self, name: str) -> None:
        """Looking would cost a request each time: what was put there is there."""
        return None

    async def _shell(self, script: str, *arguments: str) -> None:
        await self._client.commands.repeatable(["sh", "-c", script, "sh", *arguments])

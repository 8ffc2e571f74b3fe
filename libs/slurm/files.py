"""Small files on the machine's file systems: list, fetch, put. Every answer is bounded, whatever is there.

Errors: NotFound, Refused (no permission, a directory, too large), Transient ones, Malformed.
"""

import asyncio
import contextlib
import os
import secrets
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn, Protocol
from urllib.parse import quote

from libs.runtime.errors import Malformed, Overloaded, Refused
from libs.slurm import file_replies
from libs.slurm.errors import NotFound
from libs.slurm.file_replies import Entry
from libs.slurm.transport import ApiTransport

# The API's own bound on a file that it sends or takes: https://docs.nersc.gov/services/sfapi/.
FILE_LIMIT_BYTES = 5_242_880
ENTRIES_LIMIT = 10_000
_PRIVATE = 0o600


class Files(Protocol):
    """Small files, by absolute path."""

    async def ls(self, path: str) -> tuple[Entry, ...]:
        """What a directory holds, or the one file that is named."""

    async def download(self, path: str) -> bytes:
        """A file of at most 5 MiB."""

    async def upload(self, path: str, content: bytes) -> None:
        """Put a file of at most 5 MiB in place of what is there; may be repeated."""


class ApiFiles:
    """Files by the API's utilities. The API writes with its own mode: a secret needs a directory that guards it."""

    def __init__(self, machine: str, api: ApiTransport) -> None:
        self._machine = machine
        self._api = api

    async def ls(self, path: str) -> tuple[Entry, ...]:
        """GET /utilities/ls."""
        where = self._path("ls", path)
        return file_replies.entries(await self._api.get(where), where)

    async def download(self, path: str) -> bytes:
        """GET /utilities/download; text comes as it is, anything else in base64."""
        where = self._path("download", path)
        return file_replies.content(await self._api.get(where, {"binary": "true"}), where)

    async def upload(self, path: str, content: bytes) -> None:
        """PUT /utilities/upload."""
        _refuse_large(path, len(content))
        where = self._path("upload", path)
        sent = {"file": (path.rpartition("/")[2], content)}
        file_replies.uploaded(await self._api.repeatable("PUT", where, files=sent), where)

    def _path(self, what: str, path: str) -> str:
        # The path keeps its own leading slash: with a single one it would be below the home directory.
        return f"/utilities/{what}/{self._machine}/{quote(_absolute(path), safe='/')}"


class LocalFiles:
    """Files of this machine."""

    async def ls(self, path: str) -> tuple[Entry, ...]:
        """List."""
        return await asyncio.to_thread(_list, Path(_absolute(path)))

    async def download(self, path: str) -> bytes:
        """Read."""
        return await asyncio.to_thread(_read, Path(_absolute(path)))

    async def upload(self, path: str, content: bytes) -> None:
        """Write beside it, readable for the owner alone, and put in place in one step."""
        _refuse_large(path, len(content))
        await asyncio.to_thread(_write, Path(_absolute(path)), content)


def _absolute(path: str) -> str:
    if not path.startswith("/") or "\0" in path or {".", ".."} & set(path.split("/")):
        raise Malformed(f"{path[:200]!r} is not an absolute path without `.` and `..`")
    return path


def _refuse_large(path: str, size_bytes: int) -> None:
    if size_bytes > FILE_LIMIT_BYTES:
        raise Refused(f"{path}: {size_bytes} bytes, more than {FILE_LIMIT_BYTES}")


def _list(path: Path) -> tuple[Entry, ...]:
    try:
        if not path.is_dir():
            return (_entry(path, str(path)),)
        found: list[Entry] = []
        with os.scandir(path) as inside:
            for entry in inside:
                if len(found) == ENTRIES_LIMIT:
                    raise Refused(f"{path}: more than {ENTRIES_LIMIT} entries")
                found.append(_entry(Path(entry.path), entry.name))
    except OSError as error:
        _raise(path, error)
    return tuple(found)


def _entry(path: Path, name: str) -> Entry:
    about = path.lstat()
    return Entry(
        name=name,
        is_directory=stat.S_ISDIR(about.st_mode),
        size_bytes=about.st_size,
        date=datetime.fromtimestamp(about.st_mtime, UTC).isoformat(timespec="seconds"),
    )


def _read(path: Path) -> bytes:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise Refused(f"{path}: not a file")
        with path.open("rb") as file:
            content = file.read(FILE_LIMIT_BYTES + 1)
    except OSError as error:
        _raise(path, error)
    _refuse_large(str(path), len(content))
    return content


def _write(path: Path, content: bytes) -> None:
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        _raise(path, error)


def _raise(path: Path, error: OSError) -> NoReturn:
    text = f"{path}: {error.strerror}"
    if isinstance(error, FileNotFoundError):
        raise NotFound(text) from error
    if isinstance(error, PermissionError | IsADirectoryError | NotADirectoryError):
        raise Refused(text) from error
    raise Overloaded(text) from error

"""Answers of the API's file endpoints into typed values. Pure; a body of another shape is Malformed.

Source: https://api.nersc.gov/api/v1.2/openapi.json (DirectoryOutput, FileDownload, UploadResult). A failure comes as
HTTP 200 with status ERROR and the words of the command behind it.
"""

import base64
import binascii
from typing import NoReturn

import msgspec

from libs.runtime.errors import Malformed, Overloaded, Refused
from libs.slurm.errors import NotFound
from libs.slurm.outcomes import TEXT_LIMIT
from libs.slurm.replies import decode

_REFUSED = ("permission denied", "is a directory", "not a directory", "quota", "larger than", "too large", "read-only")


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of a directory. `date` as the other side writes it."""

    name: str
    is_directory: bool
    size_bytes: int
    date: str = ""


class _Entry(msgspec.Struct):
    name: str
    perms: str = ""
    size: float = 0.0
    date: str | None = None


class _Directory(msgspec.Struct):
    status: str
    entries: list[_Entry] | None = None
    error: str | None = None


class _Download(msgspec.Struct):
    status: str
    file: str | None = None
    is_binary: bool | None = None
    error: str | None = None


class _Upload(msgspec.Struct):
    status: str
    error: str | None = None


def entries(body: bytes, what: str) -> tuple[Entry, ...]:
    """GET /utilities/ls: what a directory holds, without itself and its parent; or the one file that was named."""
    answer = decode(body, _Directory, what)
    _raise_unless_ok(answer.status, answer.error, what)
    if answer.entries is None:
        raise Malformed(f"{what}: status OK without entries")
    return tuple(
        Entry(
            name=one.name,
            is_directory=one.perms.startswith("d"),
            size_bytes=int(one.size),
            date=one.date or "",
        )
        for one in answer.entries
        if one.name not in (".", "..")
    )


def content(body: bytes, what: str) -> bytes:
    """GET /utilities/download: the file's bytes."""
    answer = decode(body, _Download, what)
    _raise_unless_ok(answer.status, answer.error, what)
    if answer.file is None:
        raise Malformed(f"{what}: status OK without a file")
    if not answer.is_binary:
        return answer.file.encode()
    try:
        return base64.b64decode(answer.file, validate=True)
    except (binascii.Error, ValueError):
        raise Malformed(f"{what}: the file is said to be base64, and is not") from None


def uploaded(body: bytes, what: str) -> None:
    """PUT /utilities/upload: nothing when the file is there."""
    answer = decode(body, _Upload, what)
    _raise_unless_ok(answer.status, answer.error, what)


def _raise_unless_ok(status: str, error: str | None, what: str) -> None:
    if status.upper() != "OK":
        _raise_by_text(error or f"status {status[:40]!r} without a text", what)


def _raise_by_text(text: str, what: str) -> NoReturn:
    lowered = text.lower()
    said = f"{what}: {text[:TEXT_LIMIT]}"
    if "no such file" in lowered or "cannot access" in lowered:
        raise NotFound(said)
    if any(words in lowered for words in _REFUSED):
        raise Refused(said)
    raise Overloaded(said)

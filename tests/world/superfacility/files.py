"""The file endpoints' work: ls, download and upload of small files on the machine that the facility runs on.

A path keeps its leading slash (`/utilities/ls/perlmutter//global/...`); without one it is below the home directory.
"""

from __future__ import annotations

import base64
import grp
import os
import pwd
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

FILE_MAX_BYTES = 5_242_880
ENTRIES_MAX = 10_000


class Files:
    """Answers in the API's shapes; every failure is status ERROR with the command's own words."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def ls(self, path: str) -> dict[str, Any]:
        """Return {"status", "entries", "error", "file", "is_binary"}: `ls -la` of a directory or of one file."""
        answer: dict[str, Any] = {"status": "OK", "entries": [], "error": None, "file": None, "is_binary": False}
        try:
            target = self._home / path
            if target.is_dir() and not target.is_symlink():
                inside = sorted(os.listdir(target))[:ENTRIES_MAX]
                answer["entries"] = [_entry(target / name, name) for name in (".", "..", *inside)]
            else:
                answer["entries"] = [_entry(target, path)]
        except (OSError, ValueError) as error:
            return {**answer, "status": "ERROR", "error": f"ls: cannot access '{path}': {_words(error)}"}
        return answer

    def download(self, path: str, *, binary: bool) -> dict[str, Any]:
        """Return {"status", "file", "is_binary", "error"}; a file that is no text comes in base64."""
        try:
            target = self._home / path
            if target.stat().st_size > FILE_MAX_BYTES:
                return _no_file(f"{path}: file is larger than {FILE_MAX_BYTES} bytes")
            content = target.read_bytes()
        except (OSError, ValueError) as error:
            return _no_file(f"{path}: {_words(error)}")
        if not binary:
            try:
                return {"status": "OK", "file": content.decode(), "is_binary": False, "error": None}
            except UnicodeDecodeError:
                pass
        return {"status": "OK", "file": base64.b64encode(content).decode(), "is_binary": True, "error": None}

    def upload(self, path: str, content: bytes) -> dict[str, Any]:
        """Return {"status", "output", "error"}."""
        if len(content) > FILE_MAX_BYTES:
            text = f"{path}: file is larger than {FILE_MAX_BYTES} bytes"
            return {"status": "ERROR", "output": None, "error": text}
        try:
            (self._home / path).write_bytes(content)
        except (OSError, ValueError) as error:
            return {"status": "ERROR", "output": None, "error": f"{path}: {_words(error)}"}
        return {"status": "OK", "output": path, "error": None}


def _entry(target: Path, name: str) -> dict[str, Any]:
    found = target.lstat()
    return {
        "perms": stat.filemode(found.st_mode),
        "hardlinks": found.st_nlink,
        "user": _name(found.st_uid, group=False),
        "group": _name(found.st_gid, group=True),
        "size": float(found.st_size),
        "date": datetime.fromtimestamp(found.st_mtime, UTC).isoformat(timespec="seconds"),
        "name": f"{name} -> {target.readlink()}" if target.is_symlink() else name,
    }


def _name(number: int, *, group: bool) -> str:
    try:
        return grp.getgrgid(number).gr_name if group else pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _words(error: OSError | ValueError) -> str:
    text = error.strerror if isinstance(error, OSError) else None
    return text or "Invalid argument"


def _no_file(error: str) -> dict[str, Any]:
    return {"status": "ERROR", "file": None, "is_binary": False, "error": error}

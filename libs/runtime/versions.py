"""Files that belong together, kept as versions of one directory; a symbolic link names the version in effect.

    DIRECTORY/current -> 20261125t101500-3f2a91c0        a new link, renamed over the old one
    DIRECTORY/20261125t101500-3f2a91c0/{hostcert.pem,hostkey.pem}

Whoever opens DIRECTORY/current/... finds files of one version, whatever the installer was killed in: `current` is as it
was, or as it is to be. The version before the one in effect is kept; older ones, and what killed installers left, go.
"""

import contextlib
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from libs.runtime.errors import Misconfigured, Overloaded
from libs.runtime.secret_file import STALE_AFTER_S, sync_directory, write_new

CURRENT = "current"
_DIRECTORY_MODE = 0o750
# Names of versions and of links that were never renamed; nothing else in the directory is ours to remove.
_VERSION_LENGTH = len("20261125t101500-3f2a91c0")
_LINK_PREFIX = ".current."


@dataclass(frozen=True, repr=False)
class File:
    """One file of a version. Never shown: it may be a key."""

    content: bytes
    mode: int = 0o400


def directory_of(path: Path, setting: str) -> Path:
    """DIRECTORY of a file that is read as DIRECTORY/current/NAME. Misconfigured when the setting says another form."""
    if path.parent.name != CURRENT:
        raise Misconfigured(
            f"{setting} is {path}, but what is installed is found in a directory named {CURRENT!r}: "
            f"set it to {path.parent / CURRENT / path.name}, its directory on a persistent volume"
        )
    return path.parent.parent


def is_awaited(path: Path) -> bool:
    """True when the file is read from what is installed, and nothing has ever been installed there."""
    return path.parent.name == CURRENT and not os.path.lexists(path.parent)


def install(directory: Path, files: Mapping[str, File], now: datetime) -> Path:
    """Make a version of these files and put it into effect; gives its directory. Durable when it returns.

    Overloaded when anything fails (full disk, read-only volume): what was in effect then stays in effect.
    """
    version = directory / f"{now:%Y%m%dt%H%M%S}-{secrets.token_hex(4)}"
    link = directory / f"{_LINK_PREFIX}{secrets.token_hex(6)}"
    try:
        os.makedirs(directory, _DIRECTORY_MODE, exist_ok=True)
        before = in_effect(directory)
        os.mkdir(version, _DIRECTORY_MODE)
        for name, file in files.items():
            write_new(version / name, file.content, file.mode)
        sync_directory(version)
        os.symlink(version.name, link)
        os.replace(link, directory / CURRENT)
        sync_directory(directory)
    except OSError as error:
        if in_effect(directory) != version.name:
            _remove(version)
        with contextlib.suppress(OSError):
            os.unlink(link)
        raise Overloaded(f"{directory} cannot be written: {error.strerror}; what was installed stays") from error
    _sweep(directory, {version.name, before}, now)
    return version


def in_effect(directory: Path) -> str:
    """The name of the version in effect; empty when there is none."""
    try:
        return os.readlink(directory / CURRENT)
    except OSError:
        return ""


def _sweep(directory: Path, kept: set[str], now: datetime) -> None:
    """Remove older versions, and half-made ones that no living installer can still be at. A failure only costs room."""
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        for entry in list(entries):
            is_version = len(entry.name) == _VERSION_LENGTH and entry.is_dir(follow_symlinks=False)
            if not (is_version or entry.name.startswith(_LINK_PREFIX)) or entry.name in kept:
                continue
            is_old = entry.stat(follow_symlinks=False).st_mtime < now.timestamp() - STALE_AFTER_S
            if is_old and is_version:
                _remove(Path(entry.path))
            elif is_old:
                os.unlink(entry.path)


def _remove(version: Path) -> None:
    with contextlib.suppress(OSError):
        for name in os.listdir(version):
            os.unlink(version / name)
        os.rmdir(version)

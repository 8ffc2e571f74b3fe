"""Secrets are named by file path only: reads one, or several that belong together, and replaces one in one step."""

import contextlib
import os
import secrets
import stat
from collections.abc import Sequence
from pathlib import Path

from libs.runtime.errors import Misconfigured, Overloaded

MOST_BYTES = 1 << 20
STALE_AFTER_S = 3600.0
# A reader that meets a swap just then looks again; a third swap within the same instant is no swap.
_LOOKS = 3
_FOR_EVERYONE = 0o007

Stamp = tuple[tuple[str, int, int, int], ...]


def read_secret(path: Path, what: str, *, private: bool = False) -> bytes:
    """The bytes of a secret file. Misconfigured names the file and what it is for, never its content.

    A `private` one that everyone may read is refused, with how to mend it.
    """
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise Misconfigured(
            f"{what}: {path} cannot be read ({error.strerror}); mount it or correct the path"
        ) from error
    if private and mode & _FOR_EVERYONE:
        raise Misconfigured(
            f"{what}: everyone may read {path} (mode {mode:04o}); chmod 0400 it, or give the volume of a "
            "Kubernetes secret the defaultMode 0400 (0440, 0600 and 0640 will do, too)"
        )
    if not content.strip():
        raise Misconfigured(f"{what}: {path} is empty")
    if len(content) > MOST_BYTES:
        raise Misconfigured(f"{what}: {path} is larger than {MOST_BYTES} bytes")
    return content


def stamp(paths: Sequence[Path]) -> Stamp:
    """What changes when one of the files does: another link's target, inode, size or time. Never raises."""
    found = []
    for path in paths:
        try:
            status = path.stat()
            found.append((os.path.realpath(path), status.st_ino, status.st_mtime_ns, status.st_size))
        except OSError:
            found.append(("", 0, 0, 0))
    return tuple(found)


def read_together(paths: Sequence[Path], what: Sequence[str], *, private: Sequence[bool] = ()) -> list[bytes]:
    """Files of one credential, none of them replaced while they were read. Misconfigured as for `read_secret`.

    Overloaded when they change all the time.
    """
    kept = tuple(private) or (False,) * len(paths)
    for _ in range(_LOOKS):
        before = stamp(paths)
        contents = [read_secret(path, name, private=own) for path, name, own in zip(paths, what, kept, strict=True)]
        if stamp(paths) == before:
            return contents
    raise Overloaded(f"{what[0]}: {paths[0]} changes while it is read; is it being written just now?")


def replace_file(path: Path, content: bytes, what: str, *, mode: int = 0o600) -> None:
    """Put a new file in the old one's place: a reader sees the one or the other, whole. Durable when it returns.

    Overloaded when it cannot be written; the old one then stays as it was.
    """
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(6)}.new")
    try:
        write_new(fresh, content, mode)
        os.replace(fresh, path)
        sync_directory(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise Overloaded(f"{what} {path} cannot be written: {error.strerror}; the old one stays") from error


def write_new(path: Path, content: bytes, mode: int) -> None:
    """Make a file that must not be there yet, its mode whatever the umask says, and durable. OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        os.fchmod(descriptor, mode)
        left = memoryview(content)
        while left:
            left = left[os.write(descriptor, left) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_directory(directory: Path) -> None:
    """Make what was renamed or made in a directory durable. OSError."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep(path: Path, now_s: float) -> int:
    """Remove what a killed process left half-written beside the file long ago; gives how many. `now_s`: Unix time."""
    removed = 0
    for stale in path.parent.glob(f".{path.name}.*.new"):
        with contextlib.suppress(OSError):
            if stale.stat().st_mtime < now_s - STALE_AFTER_S:
                stale.unlink()
                removed += 1
    return removed

"""Secrets are named by file path only; this reads one."""

from pathlib import Path

from libs.runtime.errors import Misconfigured


def read_secret(path: Path, what: str) -> bytes:
    """The bytes of a secret file. Misconfigured names the file and what it is for, never its content."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Misconfigured(
            f"{what}: {path} cannot be read ({error.strerror}); mount it or correct the path"
        ) from error
    if not content.strip():
        raise Misconfigured(f"{what}: {path} is empty")
    return content

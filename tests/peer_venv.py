"""Another project's package in a virtual environment of its own, which holds exactly what a hashed lock says."""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
import sys
from pathlib import Path

BUILD = Path(__file__).resolve().parents[1] / "build"


def python_of(name: str, lock: Path) -> Path:
    """The interpreter of build/<name>-venv; made when it is not there, or not by this lock."""
    venv = BUILD / f"{name}-venv"
    BUILD.mkdir(exist_ok=True)
    stamp, wanted = venv / ".installed", hashlib.sha256(lock.read_bytes()).hexdigest()
    python = venv / "bin" / "python"
    with (BUILD / f"{name}-venv.lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if not (stamp.exists() and stamp.read_text() == wanted):
            # Our own pip fills it: a pip of its own, and compiling everything, would take as long again.
            subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", venv], check=True)
            pip = ["pip", "--python", str(python), "install", "-q", "--disable-pip-version-check", "--no-compile"]
            options = ["--require-hashes", "--no-deps", "-r", str(lock)]
            subprocess.run([sys.executable, "-m", *pip, *options], check=True)
            stamp.write_text(wanted)
    return python

"""The accounting database as every instance begins with it, kept below build/: to fill one takes longer than all else.

Where that folder cannot be written (in a container), every instance fills its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.world.processes import REPOSITORY

FOLDER = REPOSITORY / "build" / "slurm-database"


def place(user: str, *programs: str) -> Path:
    """Return where the database is kept that this code fills for a user with these programs."""
    about = hashlib.sha256(user.encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        about.update(source.read_bytes())
    for program in programs:
        with contextlib.suppress(OSError):
            status = os.stat(program)
            about.update(f"{program} {status.st_size} {status.st_mtime_ns}".encode())
    return FOLDER / about.hexdigest()[:16]


def copy(kept: Path, database: Path) -> bool:
    """Copy the kept database to where an instance wants its own; False when there is none."""
    if not kept.is_dir():
        return False
    _copy(kept, database)
    return True


def keep(database: Path, kept: Path) -> None:
    """Keep a database whose server has stopped; what was kept for other code or programs goes."""
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        FOLDER.mkdir(parents=True, exist_ok=True)
        for old in FOLDER.iterdir():
            if old != kept and not old.name.startswith("making-"):
                shutil.rmtree(old, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix="making-", dir=FOLDER) as making:
            _copy(database, Path(making) / "db")
            # Another instance may have been faster: then its database stays.
            os.rename(Path(making) / "db", kept)


def _copy(source: Path, target: Path) -> None:
    """Copy a folder to a new name or an empty one; InnoDB's files are mostly holes."""
    target.mkdir(exist_ok=True)
    subprocess.run(["cp", "-a", "--sparse=always", f"{source}/.", target], check=True, capture_output=True, timeout=60)

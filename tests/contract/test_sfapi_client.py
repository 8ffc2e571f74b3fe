"""NERSC's own sfapi_client 0.6.0, unmodified, in a virtual environment of its own, against the world's facility."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.contract.superfacility_session import Facility
from tests.peer_venv import python_of

REPOSITORY = Path(__file__).resolve().parents[2]
LOCK = REPOSITORY / "tests" / "contract" / "sfapi_client.lock"
SESSION = REPOSITORY / "tests" / "contract" / "sfapi_client_session.py"


@pytest.fixture(scope="session")
def sfapi_python() -> Path:
    """The interpreter that has exactly what the hashed lock says."""
    return python_of("sfapi", LOCK)


@pytest.mark.timeout(300)
def test_nerscs_own_client_works_unmodified(sfapi_python: Path, facility: Facility, tmp_path: Path) -> None:
    """Token, status, account, jobs of every kind, arrays, run, files and 20 submissions at once all succeed."""
    ready = tmp_path / "ready.json"
    ready.write_text(json.dumps(facility.ready))
    done = subprocess.run(
        [sfapi_python, SESSION, ready], capture_output=True, text=True, timeout=180, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen.pop("refused_command").strip() == "no"
    assert seen == {
        "token": True,
        "status": "active",
        "status_of": "active",
        "outages": [],
        "user": facility.ready["user"],
        "projects": [facility.ready["account"]],
        "roles": [facility.ready["account"]],
        "groups": [facility.ready["account"]],
        "clients": True,
        "jobid_is_text": True,
        "complete": "COMPLETED",
        "running": "RUNNING",
        "jobs": ["sfapi-cancel"],
        "job": "RUNNING",
        "cancelled": True,
        "sacct": "CANCELLED",
        "jobs_left": 0,
        "run": "one two\n",
        "run_list": "three\n",
        "array": ["COMPLETED"] * 3,
        "files": {
            "is_dir": True,
            "ls": True,
            "size": True,
            "download": True,
            "binary": True,
            "by_path": "COMPLETED",
            "said": "a b c\n",
            "by_remote_path": "d e\n",
            "missing": True,
        },
        "twenty": {"ids": 20, "states": ["COMPLETED"]},
        "refused_submission": "sbatch: error: Batch job submission failed: Invalid qos specification",
        "keyfile": "active",
        "keyfile_token": True,
    }

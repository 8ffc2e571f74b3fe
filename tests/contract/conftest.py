"""The outside world for contract tests: a real Slurm where installed, and the API over it and over the model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.contract.superfacility_session import Facility
from tests.world.processes import start
from tests.world.slurm.cluster import missing_programs

SLURMS = [pytest.param("real", marks=pytest.mark.slurm), "model"]


@pytest.fixture(scope="session")
def real_slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A real Slurm's ready line; skips where none is installed."""
    if missing := missing_programs():
        pytest.skip(f"no real Slurm here (missing: {' '.join(missing)}); `make install` as root on Debian installs one")
    with start("tests.world.slurm", "--state", str(tmp_path_factory.mktemp("slurm")), "--nodes", "4") as (_, ready):
        yield ready


@pytest.fixture(scope="session", params=SLURMS)
def facility(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Facility]:
    """The Superfacility API over the real Slurm and over the model, four nodes each."""
    environment = request.getfixturevalue("real_slurm")["environment"] if request.param == "real" else {}
    state = str(tmp_path_factory.mktemp(f"facility-{request.param}"))
    with start(
        "tests.world.superfacility", "--state", state, "--slurm", request.param, "--nodes", "4", env=environment
    ) as (_, ready):
        yield Facility(ready, request.param)

"""`make crash` with a hundred agents and five seeds, side by side: most of their time is waiting."""

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.world.processes import REPOSITORY

pytestmark = pytest.mark.timeout(240)
SEEDS = (1, 2, 3, 4, 5)
AGENTS = 100


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[int, subprocess.Popen[str]]]:
    """All of them, started at once."""
    folder = tmp_path_factory.mktemp("crash")
    command = [sys.executable, "-m", "tests.e2e.crash", "--agents", str(AGENTS)]
    started = {
        seed: subprocess.Popen(
            [*command, "--seed", str(seed), "--folder", str(folder / str(seed))],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for seed in SEEDS
    }
    yield started
    for process in started.values():
        if process.poll() is None:
            process.send_signal(2)
        process.communicate(timeout=60)


@pytest.mark.parametrize("seed", SEEDS)
def test_exactly_one_batch_job_per_agent(runs: dict[int, subprocess.Popen[str]], seed: int) -> None:
    """Whatever goes wrong: a hundred live batch jobs for a hundred agents, no other touched, no service with a bug."""
    text = runs[seed].communicate(timeout=200)[0]
    assert json.loads(text.splitlines()[-1]) == {
        "seed": seed,
        "intended": AGENTS,
        "live_or_finished": AGENTS,
        "doubled": 0,
        "lost": 0,
        "strangers_touched": 0,
    }, text
    assert runs[seed].returncode == 0
    assert "ended with" not in text, text

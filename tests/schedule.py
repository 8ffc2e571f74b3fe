"""Which tests run on one worker of pytest-xdist, and which begin first.

xdist's own groups (`--dist loadgroup`) are lost with pytest 9.2, whose ids of tests can no longer be written to.
"""

from __future__ import annotations

import re

# What takes longest begins first, so that no worker is left alone with it in the end.
LONGEST = (
    "tests/e2e/test_timelines.py",
    "tests/integration/bus/test_nats_cli.py",
    "tests/contract/test_sfapi_client.py",
    "tests/e2e/test_journey.py",
    "tests/contract/test_model_against_real.py",
    "tests/e2e/test_bad_starts.py",
    "tests/contract/test_world_superfacility.py",
    "tests/contract/test_world_slurm.py",
    "tests/integration/status_tracker/test_tracker.py",
    "tests/contract/test_world_model.py",
    "tests/contract/test_invariants.py",
    "tests/integration/monitoring_relay/test_relay.py",
)
# Long files whose tests share nothing that they start: each runs where there is room.
APART = (
    "tests/e2e/test_journey.py",
    "tests/contract/test_invariants.py",
    "tests/contract/test_world_model.py",
    "tests/contract/test_world_model_slurm.py",
    "tests/contract/test_world_slurm.py",
    "tests/contract/alice/test_against_world.py",
    "tests/integration/central/",
    "tests/integration/monitoring_relay/test_relay.py",
    "tests/integration/slurm_submitter/test_submitter.py",
    "tests/integration/status_tracker/test_tracker.py",
)
# The timelines play in real time, in two houses side by side.
TIMELINES = re.compile(r"tests/e2e/test_timelines\.py::test_(demand|central)")
# What is tried over a real Slurm and over the model is two groups of a file.
SLURM = re.compile(r"\[(real|model)\b")


def group(test: str) -> str:
    """Return the group of a test, by its id: a file's tests share what they start."""
    path, _, name = test.partition("::")
    if slurm := SLURM.search(name):
        return f"{path} {slurm[1]}"
    if TIMELINES.match(test):
        return f"{path} first"
    return test if path.startswith(APART) else path


def rank(test: str) -> int:
    """Return a test's place among those that begin first, by its id; for all others the place after them."""
    path = test.partition("::")[0]
    return LONGEST.index(path) if path in LONGEST else len(LONGEST)

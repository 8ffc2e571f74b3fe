"""Each invariant of ARCHITECTURE.md that this code can break: its guarding line is taken out, and a test must fail.

The repository is copied, one line is changed, and just the test that guards it runs there. A guard that can be taken
out unseen is a guard that nobody tests.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.world.processes import REPOSITORY

pytestmark = pytest.mark.timeout(170)

SUBMITTER, TRACKER = "services/slurm_submitter", "services/status_tracker"
UNIT, INTEGRATION = "tests/unit/slurm_submitter", "tests/integration/slurm_submitter/test_submitter.py"

POSTED = "answer = await self._api.effect(method, path, token, form)"
# Invariant and what is taken away: file, line as it stands, line instead, the test that must fail.
MUTANTS = {
    "1 the name is the job name": (
        f"{SUBMITTER}/batch_script.py", '        f"-J {submission.name}",', '        "-J job",',
        f"{UNIT}/test_batch_script.py::test_sbatch_lines",
    ),
    "1 records by name, not by id": (
        f"{TRACKER}/rules/counting.py", 'agent=f"{job.name}.{index}"', 'agent=f"{job.array_job_id}.{index}"',
        "tests/unit/status_tracker/test_counting.py",
    ),
    "2 intent before effect": (
        f"{SUBMITTER}/submitter.py", "        await self._books.record(submission)\n        script", "        script",
        "tests/integration/slurm_submitter/test_intent_before_effect.py",
    ),
    "3 unknown demand": (
        f"{SUBMITTER}/decide.py", "    if demand.unknown_because:", "    if False:", f"{UNIT}/test_decide.py",
    ),
    "3 unknown batch queue": (
        f"{SUBMITTER}/decide.py", "    if listing.unknown_because:", "    if False:", f"{UNIT}/test_decide.py",
    ),
    "3 stale listing": (
        f"{SUBMITTER}/decide.py", "    if (inputs.listing_age_s or 0.0) > ce.listing_max_age_s:", "    if False:",
        f"{UNIT}/test_decide.py",
    ),
    "3 an ERROR listing is not empty": (
        "libs/slurm/replies.py", '    if queue.status.upper() != "OK":', "    if False:",
        "tests/contract/test_superfacility_client.py::test_a_failed_listing_raises",
    ),
    "3 as many rows as asked for": (
        "libs/slurm/superfacility.py", "        full = len(raw) >= limit", "        full = False",
        "tests/contract/test_superfacility_client.py::test_as_many_rows_as_asked_for_is_not_complete",
    ),
    "3 recorded before counted": (
        f"{TRACKER}/tracker.py",
        "        await self._each(changed, self._write)\n", "",
        "tests/integration/status_tracker/test_tracker.py::test_counts_and_records",
    ),
    "3 unlisted agents count": (
        f"{SUBMITTER}/decide.py", "agent is None or listed_at is None or agent.first_listed_at > listed_at", "False",
        f"{UNIT}/test_decide.py::test_unlisted_counts_what_no_observation_counted",
    ),
    "3 a record newer than the listing": (
        f"{SUBMITTER}/decide.py", " or agent.first_listed_at > listed_at", "",
        f"{UNIT}/test_decide.py::test_unlisted_counts_what_no_observation_counted",
    ),
    "4 unclear counts as submitted": (
        f"{SUBMITTER}/decide.py", '"accepted", "unclear", "adopted")', '"accepted", "adopted")',
        f"{UNIT}/test_decide.py::test_unlisted_counts_what_no_observation_counted",
    ),
    "4 not abandoned before void_after": (
        f"{SUBMITTER}/lifecycle.py", " and listing.listed_at > last_chance", "", f"{UNIT}/test_lifecycle.py",
    ),
    "4 late jobs are void": (
        f"{SUBMITTER}/batch_script.py", "    exit {void}", "    true", f"{UNIT}/test_batch_script.py",
    ),
    "4 a POST is never repeated": (
        "libs/slurm/tasks.py",
        POSTED, f"{POSTED}\n            {POSTED}",
        "tests/contract/test_superfacility_client.py::test_a_submission_is_one_post_and_its_task",
    ),
    "3 an error of squeue's is not an empty queue": (
        "libs/slurm/programs.py", ' and f"{program}: error" not in error', "",
        "tests/contract/batch_queue/test_bad_answers.py::test_a_failed_squeue_is_not_an_empty_one",
    ),
    "4 a command looks before it submits": (
        "libs/slurm/remote_line.py", "look squeue squeue", "look squeue true",
        "tests/contract/batch_queue/test_facility.py::test_a_command_looks_before_it_submits",
    ),
    "4 a late command is void": (
        "libs/slurm/remote_line.py", "then say void", "then : void",
        "tests/contract/batch_queue/test_facility.py::test_a_command_executed_late_submits_nothing",
    ),
    "4 an unclear effect goes no other way": (
        "libs/slurm/machine_queue.py",
        "        return await (await self._way_for_effect()).submit(batch_script)\n",
        "        outcomes = [await way.submit(batch_script) for way in self._ways]\n        return outcomes[-1]\n",
        "tests/contract/batch_queue/test_facility.py::test_an_unclear_effect_goes_no_other_way",
    ),
    "5 one writer": (
        f"{TRACKER}/tracker.py", "subjects.JOB_AGENT_CHANGED", "subjects.DEMAND_OBSERVED",
        "tests/unit/test_house_rules.py::test_services_publish_only_what_the_table_gives_them",
    ),
    "6 the timer wakes, too": (
        "libs/runtime/reconcile.py", "max(0.0, pause_s() - spent_s)", "None",
        "tests/unit/runtime/test_reconcile.py::test_transient_goes_on_permanent_ends",
    ),
    "7 the ring is bounded": (
        "services/monitoring_relay/ring.py", "while self.size_bytes > self._limit_bytes and", "while False and",
        "tests/unit/monitoring_relay/test_ring.py",
    ),
    "8 an intent without an outcome is not forgotten": (
        f"{SUBMITTER}/submitter.py", '        if submission.state == "intended":', "        if False:",
        f"{INTEGRATION}::test_restart_does_not_submit_again",
    ),
    "8 one holder of a lease": (
        "libs/bus/bucket.py", "            if stored is None and revision == 0:", "            if revision == 0:",
        "tests/integration/bus/test_bus.py::test_lease_passes_on_with_a_greater_fence",
    ),
    "9 no password in an error": (
        "libs/bus/connection.py", '    shown = url.rpartition("@")[2]', "    shown = url",
        "tests/integration/bus/test_bus.py::test_unreachable_nats_is_said_in_time",
    ),
    "10 time is an argument": (
        f"{SUBMITTER}/lifecycle.py", "KEPT_FOR = timedelta(days=7)", "KEPT_FOR = datetime.now() - datetime.now()",
        f"tests/unit/test_house_rules.py::test_only_the_clock_reads_a_clock[{SUBMITTER}/lifecycle.py]",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository's own files, with what is compiled of them already."""
    folder = tmp_path_factory.mktemp("mutant") / "repository"
    for name in ("services", "libs", "tests", "deploy"):
        shutil.copytree(REPOSITORY / name, folder / name)
    for name in ("pyproject.toml", "ARCHITECTURE.md"):
        shutil.copy(REPOSITORY / name, folder / name)
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    return folder


def outcome(copy: Path, *tests: str) -> subprocess.CompletedProcess[str]:
    """What pytest says of these tests in the copy."""
    # Only the plugins that the tests need: a start takes half as long. Nothing is compiled to disk, where one mutant's
    # module could be taken for the next one's.
    plugins = ["pytest_asyncio.plugin", "pytest_timeout", "no:cacheprovider"]
    options = ["-q", "-x", "-o", "addopts=", "--disable-plugin-autoload", *(f"-p{name}" for name in plugins)]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, *tests],
        cwd=copy,
        env=os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=160,
        check=False,
    )


def test_with_every_guard_the_tests_pass(copy: Path) -> None:
    """Where nothing is taken out, each of the tests passes: what fails below fails for what is missing."""
    done = outcome(copy, *sorted({test for *_, test in MUTANTS.values()}))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_missing_guard_is_noticed(copy: Path, mutant: str) -> None:
    """With its guarding line taken out, the invariant's own test fails, by an assertion or an error of the test."""
    file, line, instead, test = MUTANTS[mutant]
    path = copy / file
    original = path.read_text()
    assert line in original, f"{file} has no such line any more: {line!r}"
    path.write_text(original.replace(line, instead))
    try:
        done = outcome(copy, test)
    finally:
        path.write_text(original)
    assert done.returncode == 1, done.stdout[-3000:] + done.stderr[-1000:]

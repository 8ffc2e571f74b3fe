"""The model's rows, words and exit codes beside the real Slurm's, field by field."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.contract.superfacility_session import Facility, eventually, jobs, result_of, script, submit
from tests.world.processes import start

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(180)]
COMMAND = "/utilities/command/perlmutter"
# What differs by nature: counters, clocks, and where things are.
VOLATILE = {
    "squeue": {"end_time", "start_time", "submit_time", "time", "time_left", "work_dir"},
    "sacct": {
        "associd", "dbindex", "elapsed", "elapsedraw", "cputime", "cputimeraw", "eligible", "end", "qosraw", "reserved",
        "resvcpu", "resvcpuraw", "start", "submit", "submitline", "workdir", "systemcpu", "usercpu", "totalcpu",
        "flags", "timelimitraw",
    },
}  # fmt: skip
Pair = tuple[httpx.Client, httpx.Client]


@pytest.fixture(scope="module")
def both(real_slurm: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """The facility over the real Slurm, and over the model, four nodes each."""
    with (
        start(
            "tests.world.superfacility", "--state", str(tmp_path_factory.mktemp("real")), "--slurm", "real",
            env=real_slurm["environment"],
        ) as (_, real),
        start(
            "tests.world.superfacility", "--state", str(tmp_path_factory.mktemp("model")), "--slurm", "model",
            "--nodes", "4",
        ) as (_, model),
        Facility(real, "real").client() as on_real,
        Facility(model, "model").client() as on_model,
    ):  # fmt: skip
        yield on_real, on_model
        # The real Slurm is shared by all tests of a session.
        for client, ready in ((on_real, real), (on_model, model)):
            run(client, f"scancel -u {ready['user']}")
            eventually(lambda client=client: not jobs(client))  # type: ignore[misc]


def plain(row: dict[str, str], table: str) -> dict[str, str]:
    """A row without what differs by nature; ids, priorities and node names keep only their shape."""
    kept = {name: value for name, value in row.items() if name not in VOLATILE[table]}
    for name in ("jobid", "array_job_id", "jobidraw", "priority"):
        if name in kept:
            kept[name] = re.sub(r"\d+", "N", kept[name], count=1)
    return {name: re.sub(r"nid\d{6}", "nid", value) for name, value in kept.items()}


def run(client: httpx.Client, line: str) -> tuple[int, str, str]:
    said = result_of(client, client.post(COMMAND, data={"executable": line}).json()["task_id"])
    return said["exit_code"], said["output"], said["error"] or ""


def wait_for(client: httpx.Client, name: str, column: str, value: str) -> None:
    """Wait until the one row of a name says so."""
    eventually(lambda: [row[column] for row in jobs(client, f"name={name}")] == [value])


def wait_for_end(client: httpx.Client, name: str) -> None:
    """Wait until squeue has let go of a job and sacct has its end, and its step's."""
    eventually(lambda: not jobs(client, f"name={name}"))
    eventually(lambda: len(ended(client, name)) == 2)


def compared(both: Pair, name: str, *kwargs: str, sacct: bool = False, but_for: str = "") -> None:
    """Assert that both list the same rows of a name; one column may be left out."""
    table = "sacct" if sacct else "squeue"
    real, model = (listed(client, table, name, kwargs) for client in both)
    assert len(real) == len(model) > 0
    for row in (*real, *model):
        row.pop(but_for, None)
    for there, here in zip(real, model, strict=True):
        assert {key: here.get(key) for key in there if here.get(key) != there[key]} == {
            key: there[key] for key in there if here.get(key) != there[key]
        }


def listed(client: httpx.Client, table: str, name: str, kwargs: tuple[str, ...]) -> list[dict[str, str]]:
    rows = jobs(client, f"name={name}", *kwargs, sacct=table == "sacct")
    return [plain(row, table) for row in sorted(rows, key=lambda row: row["jobid"])]


def test_rows_of_a_life_are_the_same(both: Pair, tmp_path: Path) -> None:
    """Held, running and ended, in squeue and in sacct: every column that does not tell a time is equal."""
    name, over = "nacre-life", tmp_path / "over"
    text = script(
        f"until [ -e {over} ]; do sleep 0.1; done; exit 3",
        options=[f"-J {name}", "-H", '--comment="nacre:a b"', "-o /dev/null"],
    )
    ids = [submit(client, text)["jobid"] for client in both]
    compared(both, name)
    for client, job_id in zip(both, ids, strict=True):
        run(client, f"scontrol release {job_id}")
    for client in both:
        wait_for(client, name, "st", "R")
    compared(both, name)
    over.touch()
    for client in both:
        wait_for_end(client, name)
    compared(both, name, "states=all")
    # The real last reason to wait is the hold, or none, as the scheduler has looked at the job after its release.
    compared(both, name, "starttime=now-1hour", sacct=True, but_for="reason")
    for client in both:
        assert ended(client, name)[0]["reason"] in ("None", "JobHeldUser")


def ended(client: httpx.Client, name: str) -> list[dict[str, str]]:
    rows = jobs(client, f"name={name}", "starttime=now-1hour", sacct=True)
    return [row for row in rows if row["state"].split()[0] in ("FAILED", "CANCELLED", "COMPLETED", "NODE_FAIL")]


def test_rows_of_an_array_are_the_same(both: Pair) -> None:
    """Pending arrays with gaps, steps and a throttle are written in the same notation, cut at the same place."""
    name = "nacre-notation"
    for number, (array, gone) in enumerate(
        [("0-9%3", "2,5"), ("1-199:2", ""), ("0-499", ",".join(str(index) for index in range(0, 500, 9)))]
    ):
        text = script("true", options=[f"-J {name}-{number}", "-H", f"--array={array}"])
        for client in both:
            job_id = submit(client, text)["jobid"]
            if gone:
                run(client, "scancel " + " ".join(f"{job_id}_{index}" for index in gone.split(",")))
        compared(both, f"{name}-{number}")
    for client in both:
        run(client, "scancel --state=PENDING")


def test_rows_of_a_cancelled_pair_of_nodes_are_the_same(both: Pair) -> None:
    """A job on two nodes that is cancelled: node lists, resources and the word for who did it are equal."""
    name = "nacre-pair"
    for client in both:
        job_id = submit(client, script("sleep 60", options=[f"-J {name}", "-N 2", "-o /dev/null"]))["jobid"]
        wait_for(client, name, "st", "R")
        assert re.fullmatch(r"nid\[\d{6}-\d{6}\]", jobs(client, f"name={name}")[0]["nodelist"])
        run(client, f"scancel {job_id}")
    for client in both:
        wait_for_end(client, name)
    compared(both, name, "states=all")
    compared(both, name, "starttime=now-1hour", sacct=True)


REFUSALS = [
    "-t abc", "-N x", "-N 0", "--begin=foo", "-x nosuch", "-w nosuch", "--array=5-1", "--array=x", "--array=0-1001",
    "--nosuch", "-p nosuch", "--gpus-per-node=4", "-q nosuch", "-A nosuch", "-C gpu", "-L cvmfs",
    "-q debug --array=0-5",
]  # fmt: skip


@pytest.mark.parametrize("option", REFUSALS)
def test_refusals_are_the_same_words(both: Pair, option: str) -> None:
    """What sbatch refuses, both refuse in the same words."""
    real, model = (submit(client, script("true", options=[option])) for client in both)
    assert real["status"] == "error"
    assert model == real


COMMANDS = [
    "squeue -j x", "squeue -t nosuch", "squeue --nosuch", "squeue -j 99999", "squeue -j 99999,99998",
    "squeue -h -q none",
    "scancel 99999", "scancel abc", "scancel", "scancel 1_99", "sacct -o nosuch", "sacct -j x", "sacct -S nonsense",
    "sacct -s nosuch", "sacct -n -X -S now-1hour --name=none", "scontrol show job 99999", "scontrol hold 99999",
    "scontrol requeue 99999", "scontrol nosuch", "squeue -h -o %i -n none",
]  # fmt: skip


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_say_the_same(both: Pair, line: str) -> None:
    """Exit code, output and error text of the commands are equal, the wrong ones' too."""
    real, model = (run(client, line) for client in both)
    assert model == real


REASONS = [
    ("-t 3-00", "PartitionTimeLimit"), ("-t 0", "PartitionTimeLimit"), ("-N 50", "PartitionNodeLimit"),
    ("-q debug -t 60", "QOSMaxWallDurationPerJobLimit"), ("-H", "JobHeldUser"), ("--begin=now+1hour", "BeginTime"),
]  # fmt: skip


@pytest.mark.parametrize(("option", "reason"), REASONS)
def test_reasons_to_wait_are_the_same(both: Pair, option: str, reason: str) -> None:
    """A job that cannot start yet waits for the same reason, with the same limit in its row."""
    name = f"nacre-{reason.lower()}"
    for client in both:
        submit(client, script("true", options=[f"-J {name}", *([option] if option else [])]))
    for client in both:
        wait_for(client, name, "reason", reason)
    if option.startswith("--begin"):
        return
    compared(both, name)
    for client in both:
        run(client, f"scancel -n {name}")


def test_requeue_and_suspend_look_the_same(both: Pair, tmp_path: Path) -> None:
    """A suspended and then requeued job goes through the same rows, and counts its restarts."""
    name = "nacre-requeue"
    ids: list[str] = []
    for client in both:
        job_id = submit(client, script("sleep 60", options=[f"-J {name}", "-o /dev/null"]))["jobid"]
        ids.append(job_id)
        wait_for(client, name, "st", "R")
        run(client, f"scontrol suspend {job_id}")
        wait_for(client, name, "st", "S")
    compared(both, name)
    for client, job_id in zip(both, ids, strict=True):
        run(client, f"scontrol resume {job_id}")
        run(client, f"scontrol requeue {job_id}")
        wait_for(client, name, "reason", "BeginTime")
        shown = run(client, f"scontrol show job {job_id}")[1]
        assert "Restarts=1" in shown
    compared(both, name)
    for client, job_id in zip(both, ids, strict=True):
        run(client, f"scancel {job_id}")

"""The model of a Slurm beyond what it shares with the real one: its processes, its time limits, its notation."""

from __future__ import annotations

import asyncio
import os
import signal
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import httpx
import pytest

from tests.contract.superfacility_session import Facility, eventually, jobs, script, submit
from tests.world import processes
from tests.world.superfacility.arrays import format_tasks, parse_array
from tests.world.superfacility.batch_script import OptionError, parse_script, parse_time_limit_s
from tests.world.superfacility.model.nodes import Size
from tests.world.superfacility.model.slurm import ModelSlurm, Options

MODULE = "tests.world.superfacility"
STUBBORN = ("trap '' TERM", "setsid sleep 600 &", "echo $$ $! > pids-$SLURM_ARRAY_TASK_ID", "while :; do sleep 1; done")


def pids_in(home: Path, count: int) -> list[int]:
    """The pids that STUBBORN's tasks wrote down."""

    def written() -> list[int] | None:
        pids = [int(word) for path in home.glob("pids-*") for word in path.read_text().split()]
        return pids if len(pids) == 2 * count else None

    return eventually(written)


def alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_jobs_die_with_the_server(tmp_path: Path, ending: signal.Signals) -> None:
    """Jobs that ignore SIGTERM, and what they put into sessions of their own, end with the server."""
    with processes.start(MODULE, "--state", str(tmp_path), "--slurm", "model") as (process, ready):
        with Facility(ready, "model").client() as client:
            submit(client, script(*STUBBORN, options=["--array=0-1"]))
        pids = pids_in(tmp_path / "home", 2)
        process.send_signal(ending)
        assert process.wait(timeout=20) == 0
    assert eventually(lambda: not alive(pids), timeout_s=5)


def test_a_killed_run_is_cleaned_up_by_the_next(tmp_path: Path) -> None:
    """After kill -9 the next start ends the old jobs; client, key and tokens stay valid."""
    with processes.start(MODULE, "--state", str(tmp_path), "--slurm", "model") as (process, ready):
        with Facility(ready, "model").client() as client:
            submit(client, script(*STUBBORN, options=["--array=0"]))
            authorization = client.headers["authorization"]
        pids = pids_in(tmp_path / "home", 1)
        process.kill()
        process.wait()
    assert alive(pids) == pids
    with processes.start(MODULE, "--state", str(tmp_path), "--slurm", "model") as (_, again):
        eventually(lambda: not alive(pids), timeout_s=5)
        assert again["client_id"] == ready["client_id"]
        with httpx.Client(
            base_url=again["api_base_url"], headers={"Authorization": authorization}, verify=False
        ) as client:
            assert jobs(client) == []


def test_local_time_is_the_machines(tmp_path: Path) -> None:
    """squeue writes instants in the facility's time zone, without saying so."""
    with processes.start(
        MODULE, "--state", str(tmp_path), "--slurm", "model", "--time-zone", "America/Los_Angeles"
    ) as (_, ready), Facility(ready, "model").client() as client:  # fmt: skip
        submit(client, script("true", options=["--hold"]))
        (row,) = jobs(client)
        clock = Facility(ready, "model").admin("GET", "/ledger")[0]["submitted_at"]
    shown = datetime.fromisoformat(row["submit_time"]).replace(tzinfo=ZoneInfo(ready["time_zone"]))
    assert abs(shown.timestamp() - clock) < 5


async def test_time_limit_ends_a_job(tmp_path: Path) -> None:
    """A job beyond its limit gets SIGTERM, ends as TIMEOUT 0:0 in sacct, and frees its node for the next."""
    options = Options(Size(1, 4), "m0000", speed=60)
    slurm = ModelSlurm(tmp_path / "m", options, environment={}, home=tmp_path)
    await slurm.start()
    try:
        for name, limit in (("long", "1"), ("next", "30")):
            said = await slurm.run(
                ["sbatch", "-q", "regular", "-t", limit, "-J", name],
                directory=tmp_path,
                stdin="#!/bin/sh\nexec sleep 5\n",
            )
            assert said.output.startswith("Submitted batch job")

        async def states() -> list[str]:
            said = await slurm.run(
                ["sacct", "-X", "-n", "-P", "-o", "JobName,State,ExitCode"],
                directory=tmp_path,
                environment=dict(os.environ),
            )
            return said.output.split()

        async with asyncio.timeout(20):
            while await states() != ["long|TIMEOUT|0:0", "next|COMPLETED|0:0"]:
                await asyncio.sleep(0.1)
    finally:
        await slurm.close()


@pytest.mark.parametrize(
    ("written", "listed"),
    [
        ("0-9", "0-9"),
        ("5", "5"),
        ("0-9:3,20", "0,3,6,9,20"),
        ("1-199:2%7", "1-199:2%7"),
        ("0-10:2", "0,2,4,6,8,10"),
        ("0-12:2", "0-12:2"),
    ],
)
def test_task_lists_are_written_as_squeue_does(written: str, listed: str) -> None:
    """Ranges, a step beyond a span of ten, and the throttle, as seen on a real Slurm 22.05."""
    tasks, throttle = parse_array(written)
    assert format_tasks(tasks, throttle=throttle) == listed


def test_long_task_lists_are_cut_as_squeue_does() -> None:
    """A list is cut at 63 characters and ends in three dots, unless all of it is asked for."""
    tasks = sorted(set(range(1, 1000)) - set(range(101, 301, 4)))
    assert format_tasks(tasks) == "1-100,102-104,106-108,110-112,114-116,118-120,122-124,126-12..."
    assert parse_array(format_tasks(tasks, cut=False)) == (tasks, None)


def test_batch_options_are_read_as_sbatch_does() -> None:
    """#SBATCH counts in column 0 before the first command; time limits have Slurm's forms; unknown ones are named."""
    options = parse_script(
        "#!/bin/sh\n#SBATCH -J one --comment='a b'\n #SBATCH -J two\n\n#SBATCH --array=0-3 # why\n"
        "true\n#SBATCH -J three\n"
    )
    assert options.values == {"job-name": "one", "comment": "a b", "array": "0-3"}
    assert [parse_time_limit_s(text) for text in ("30", "0:01", "2:00:00", "1-2", "1-0:30")] == [
        1800, 60, 7200, 93_600, 88_200,
    ]  # fmt: skip
    with pytest.raises(OptionError, match="unrecognized option '--nonsense'"):
        parse_script("#!/bin/sh\n#SBATCH --nonsense\n")

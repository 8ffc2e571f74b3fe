"""A session with NERSC's own sfapi_client, unmodified: token, status, submit_job, complete, jobs, cancel and the rest.

Runs inside the virtual environment of sfapi_client.lock, not ours: `python sfapi_client_session.py READY.json`. Prints
one JSON object {check: what was seen}; any failure is a traceback.
"""

from __future__ import annotations

import asyncio
import io
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SCRIPT = """#!/bin/bash
#SBATCH -q regular
#SBATCH -C cpu
#SBATCH -N 1
#SBATCH -t 10
#SBATCH -J {name}
#SBATCH -o /dev/null
{lines}
"""


def array_of(machine: Any) -> list[str]:
    """Submit an array of three and wait for all; `complete` wants one record of sacct, an array has three."""
    from sfapi_client.jobs import JobCommand  # type: ignore[import-not-found]

    job = machine.submit_job(SCRIPT.format(name="sfapi-array", lines="#SBATCH --array=0-2\ntrue"))
    seen: list[str] = []
    until = time.monotonic() + 60
    while seen != ["COMPLETED"] * 3 and time.monotonic() < until:
        time.sleep(0.3)
        records = machine.jobs(jobids=[f"{job.jobid}_{index}" for index in range(3)], command=JobCommand.sacct)
        seen = [record.state.value for record in records]
    return seen


def files(machine: Any, folder: Path) -> dict[str, Any]:
    """Upload a script, list it, download it, and submit it by path with arguments."""
    seen: dict[str, Any] = {}
    (home,) = machine.ls(str(folder), directory=True)
    seen["is_dir"] = home.is_dir()
    content = io.BytesIO(SCRIPT.format(name="sfapi-path", lines=f'echo "$1 $2" > {folder}/said').encode())
    content.filename = "by-path.sh"  # type: ignore[attr-defined]
    path = home.upload(content)
    seen["ls"] = "by-path.sh" in [one.name for one in machine.ls(str(folder))]
    (same,) = machine.ls(str(path))
    seen["size"] = same.size == len(content.getvalue())
    seen["download"] = same.download().read() == content.getvalue().decode()
    seen["binary"] = same.download(binary=True).read() == content.getvalue()
    job = machine.submit_job(str(path), args=["a", "b c"])
    seen["by_path"] = job.complete(timeout=60).value
    seen["said"] = (folder / "said").read_text()
    job = machine.submit_job(same, args=["d", "e"])
    job.complete(timeout=60)
    seen["by_remote_path"] = (folder / "said").read_text()
    try:
        machine.ls(f"{folder}/nowhere")
    except Exception as error:
        seen["missing"] = "No such file or directory" in str(error)
    return seen


async def twenty(ready: dict[str, Any], key: str, urls: dict[str, Any]) -> dict[str, Any]:
    """Submit 20 scripts at once and wait for all of them."""
    from sfapi_client import AsyncClient  # type: ignore[import-not-found]
    from sfapi_client.compute import Machine  # type: ignore[import-not-found]

    async with AsyncClient(ready["client_id"], key, **urls) as client:
        machine = await client.compute(Machine.perlmutter)
        text = SCRIPT.format(name="sfapi-many", lines="true")
        jobs = await asyncio.gather(*(machine.submit_job(text) for _ in range(20)))
        states = await asyncio.gather(*(job.complete(timeout=100) for job in jobs))
    return {"ids": len({job.jobid for job in jobs}), "states": sorted({state.value for state in states})}


def main(ready: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Go through the calls that a CE or its operators make."""
    from sfapi_client import Client, Resource, SfApiError
    from sfapi_client.compute import Machine
    from sfapi_client.jobs import JobCommand, JobState

    seen: dict[str, Any] = {}
    key = Path(ready["key_path"]).read_text()
    urls = {"api_base_url": ready["api_base_url"], "token_url": ready["token_url"], "wait_interval": 0.3}
    with Client(ready["client_id"], key, **urls) as client:
        seen["token"] = len(client.token) > 20
        machine = client.compute(Machine.perlmutter)
        seen["status"] = machine.status.value
        seen["outages"] = sorted(client.resources.outages())
        seen["status_of"] = client.resources.status(Resource.perlmutter).status.value
        seen["user"] = client.user().name
        user = client.user()
        seen["projects"] = [project.repo_name for project in user.projects()]
        seen["roles"] = [role.repo_name for role in user.roles()]
        seen["groups"] = [group.name for group in user.groups()]
        seen["clients"] = [one.clientId for one in user.clients()] == [ready["client_id"]]

        job = machine.submit_job(SCRIPT.format(name="sfapi-done", lines="sleep 1"))
        seen["jobid_is_text"] = isinstance(job.jobid, str)
        seen["complete"] = job.complete(timeout=60).value

        waiting = machine.submit_job(SCRIPT.format(name="sfapi-cancel", lines="sleep 600"))
        seen["running"] = waiting.running(timeout=60).value
        # Other tests share this Slurm and its user.
        seen["jobs"] = sorted(job.name for job in machine.jobs(user=ready["user"]) if job.name.startswith("sfapi-"))
        seen["job"] = machine.job(waiting.jobid, command=JobCommand.squeue).state.value
        waiting.cancel(wait=True)
        seen["cancelled"] = waiting.state is JobState.CANCELLED
        seen["sacct"] = machine.job(waiting.jobid, command=JobCommand.sacct).state.value
        seen["jobs_left"] = sum(job.name.startswith("sfapi-") for job in machine.jobs(user=ready["user"]))

        seen["run"] = machine.run("echo one two")
        seen["run_list"] = machine.run(["echo", "three"])
        seen["array"] = array_of(machine)
        seen["files"] = files(machine, folder)
        to_refuse: dict[str, Callable[[], object]] = {
            "refused_submission": lambda: machine.submit_job(SCRIPT.format(name="x", lines="#SBATCH -q nosuch")),
            "refused_command": lambda: machine.run("echo no >&2; exit 3"),
        }
        for name, refused in to_refuse.items():
            try:
                refused()
            except SfApiError as error:
                seen[name] = error.message

    # A key in a file, as operators keep it: the client id in the first line.
    keyfile = folder / "client.pem"
    keyfile.touch(mode=0o600)
    keyfile.write_text(f"{ready['client_id']}\n{key}")
    with Client(key=keyfile, **urls) as client:
        seen["keyfile"] = client.compute(Machine.perlmutter).status.value
        seen["keyfile_token"] = len(client.token) > 20
    seen["twenty"] = asyncio.run(twenty(ready, key, urls))
    return seen


if __name__ == "__main__":
    path = Path(sys.argv[1])
    sys.stdout.write(json.dumps(main(json.loads(path.read_text()), path.parent)))

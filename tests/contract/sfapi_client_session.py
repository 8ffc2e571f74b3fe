"""A session with NERSC's own sfapi_client, unmodified: token, status, submit_job, complete, jobs, cancel and the rest.

Runs inside the virtual environment of sfapi_client.lock, not ours: `python sfapi_client_session.py READY.json`. Prints
one JSON object {check: what was seen}; any failure is a traceback.
"""

from __future__ import annotations

import json
import sys
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


def main(ready: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Go through the calls that a CE or its operators make."""
    from sfapi_client import Client, Resource, SfApiError  # type: ignore[import-not-found]
    from sfapi_client.compute import Machine  # type: ignore[import-not-found]
    from sfapi_client.jobs import JobCommand, JobState  # type: ignore[import-not-found]

    seen: dict[str, Any] = {}
    key = Path(ready["key_path"]).read_text()
    urls = {"api_base_url": ready["api_base_url"], "token_url": ready["token_url"], "wait_interval": 1}
    with Client(ready["client_id"], key, **urls) as client:
        seen["token"] = len(client.token) > 20
        machine = client.compute(Machine.perlmutter)
        seen["status"] = machine.status.value
        seen["outages"] = sorted(client.resources.outages())
        seen["status_of"] = client.resources.status(Resource.perlmutter).status.value
        seen["user"] = client.user().name
        seen["projects"] = [project.repo_name for project in client.user().projects()]

        job = machine.submit_job(SCRIPT.format(name="sfapi-done", lines="sleep 1"))
        seen["jobid_is_text"] = isinstance(job.jobid, str)
        seen["complete"] = job.complete(timeout=60).value

        waiting = machine.submit_job(SCRIPT.format(name="sfapi-cancel", lines="sleep 600"))
        seen["running"] = waiting.running(timeout=60).value
        seen["jobs"] = sorted(job.name for job in machine.jobs(user=ready["user"]))
        seen["job"] = machine.job(waiting.jobid, command=JobCommand.squeue).state.value
        waiting.cancel(wait=True)
        seen["cancelled"] = waiting.state is JobState.CANCELLED
        seen["sacct"] = machine.job(waiting.jobid, command=JobCommand.sacct).state.value
        seen["jobs_left"] = len(machine.jobs(user=ready["user"]))

        seen["run"] = machine.run("echo one two")
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
    return seen


if __name__ == "__main__":
    path = Path(sys.argv[1])
    sys.stdout.write(json.dumps(main(json.loads(path.read_text()), path.parent)))

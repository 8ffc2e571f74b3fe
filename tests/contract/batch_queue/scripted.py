"""A Slurm that says what a test wants, behind each way to it: programs on a PATH, and an API that speaks for them."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs

import httpx

from libs.slurm.local import LocalQueue
from libs.slurm.processes import ProcessBounds
from libs.slurm.superfacility import Endpoint, SuperfacilityClient

SQUEUE = (
    "array_job_id", "array_task_id", "jobid", "state", "user", "submit_time", "start_time", "end_time", "qos",
    "account", "nodes", "nodelist", "reason", "name", "comment",
)  # fmt: skip
SACCT = (
    "jobid", "jobidraw", "state", "exitcode", "user", "submit", "eligible", "start", "end", "elapsedraw", "totalcpu",
    "qos", "account", "nnodes", "nodelist", "reason", "jobname", "comment",
)  # fmt: skip
PENDING = {
    "array_job_id": "7", "array_task_id": "0-2", "jobid": "7", "state": "PENDING", "user": "alicepro",
    "submit_time": "2026-11-23T03:00:00", "start_time": "N/A", "end_time": "N/A", "qos": "regular", "account": "m0000",
    "nodes": "1", "nodelist": "", "reason": "Priority", "name": "nacre-cpu-a", "comment": "(null)",
}  # fmt: skip
ENDED = {
    "jobid": "7_0", "jobidraw": "8", "state": "COMPLETED", "exitcode": "0:0", "user": "alicepro",
    "submit": "2026-11-23T03:00:00", "eligible": "2026-11-23T03:00:00", "start": "2026-11-23T03:00:00",
    "end": "2026-11-23T04:00:00", "elapsedraw": "3600", "totalcpu": "00:00:00", "qos": "regular", "account": "m0000",
    "nnodes": "1", "nodelist": "nid001", "reason": "None", "jobname": "nacre-cpu-a", "comment": "",
}  # fmt: skip
# Reads what the test has written for it, by the first word of its own name.
_PROGRAM = """#!/bin/sh
here={folder}
echo "{name} $*" >> "$here/calls"
[ "{name}" = sbatch ] && cat > "$here/script"
sleep "$(cat "$here/{name}.sleep")"
cat "$here/{name}.error" >&2
cat "$here/{name}.output"
exit "$(cat "$here/{name}.code")"
"""


@dataclass
class Scripted:
    """One Slurm. `raw` replaces a whole answer of the jobs endpoints' listings."""

    folder: Path
    rows: dict[str, list[dict[str, str]]] = field(default_factory=lambda: {"squeue": [], "sacct": []})
    raw: bytes | None = None
    posts: int = 0
    results: dict[str, str | None] = field(default_factory=dict)
    running: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        for name in ("squeue", "sacct", "sbatch", "scancel"):
            program = self.folder / name
            program.write_text(_PROGRAM.format(folder=self.folder, name=name))
            program.chmod(0o755)
            self.says(name)
        # A login shell resets PATH by /etc/profile, and profiles talk.
        (self.folder / ".bash_profile").write_text(
            f'export PATH="{self.folder}:$PATH" SQUEUE_USERS=nobody\necho hello\n'
        )

    def says(self, program: str, output: str = "", *, error: str = "", code: int = 0, sleep_s: float = 0.0) -> None:
        """What a program answers from now on."""
        for what, text in {"output": output, "error": error, "code": str(code), "sleep": f"{sleep_s:g}"}.items():
            (self.folder / f"{program}.{what}").write_text(text)

    def lists(self, program: str, columns: Sequence[str], *rows: dict[str, str]) -> None:
        """Rows for every way: as lines for the commands, as objects for the jobs endpoints."""
        self.rows[program] = list(rows)
        lines = ["|".join(row[column] for column in columns if column in row) for row in rows]
        self.says(program, "".join(f"{line}\n" for line in lines))

    def calls(self) -> list[str]:
        """The command lines so far."""
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def variables(self) -> dict[str, str]:
        return {"PATH": f"{self.folder}:{os.environ['PATH']}", "HOME": str(self.folder)}

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        """The API."""
        await request.aread()
        path = request.url.path
        if path == "/token":
            return httpx.Response(200, json={"access_token": "t", "expires_in": 600})
        if path.startswith("/tasks/"):
            result = self.results.get(path.removeprefix("/tasks/"))
            return httpx.Response(200, json={"status": "completed" if result else "new", "result": result})
        if request.method == "GET":
            sacct = parse_qs(request.url.query.decode()).get("sacct") == ["true"]
            rows = self.rows["sacct" if sacct else "squeue"]
            return httpx.Response(
                200, content=self.raw or json.dumps({"status": "OK", "output": rows, "error": None}).encode()
            )
        self.posts += 1
        task_id = str(self.posts)
        form = parse_qs(request.content.decode())
        if path.startswith("/utilities/command/"):
            work = self._command(form["executable"][0])
        elif request.method == "POST":
            work = self._submit(form["job"][0])
        else:
            work = self._cancel(path.rpartition("/")[2])
        self.results[task_id] = None
        self.running.add(asyncio.create_task(self._ended(task_id, work)))
        return httpx.Response(200, json={"status": "OK", "task_id": task_id, "error": None})

    async def close(self) -> None:
        """End what still runs."""
        for task in self.running:
            task.cancel()
        await asyncio.gather(*self.running, return_exceptions=True)

    async def _ended(self, task_id: str, work: object) -> None:
        self.results[task_id] = json.dumps(await work)  # type: ignore[misc]

    async def _command(self, line: str) -> dict[str, object]:
        code, output, error = await self._run(line)
        return {"status": "ok" if code == 0 else "error", "output": output, "error": error or None}

    async def _submit(self, script: str) -> dict[str, object]:
        packed = base64.b64encode(script.encode()).decode()
        code, output, error = await self._run(f"echo {packed} | base64 -d | sbatch")
        if code:
            return {"status": "error", "jobid": None, "error": error.strip() or output.strip()}
        return {"status": "ok", "jobid": output.strip(), "error": None}

    async def _cancel(self, job_id: str) -> dict[str, object]:
        code, output, error = await self._run(f"scancel {job_id}")
        return {"status": "error" if code else "ok", "output": output, "error": error if code else None}

    async def _run(self, line: str) -> tuple[int, str, str]:
        process = await asyncio.create_subprocess_exec(
            "bash", "-c", line,
            env=self.variables, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        try:
            output, error = await process.communicate()
        except asyncio.CancelledError:
            os.killpg(process.pid, signal.SIGKILL)
            await process.communicate()
            raise
        return process.returncode or 0, output.decode(), error.decode()


def local(slurm: Scripted, *, total_s: float = 5.0, output_bytes: int = 100_000) -> LocalQueue:
    """The way by local commands."""
    return LocalQueue(slurm.variables, bounds=ProcessBounds(total_s=total_s, output_bytes=output_bytes))


def by_api(slurm: Scripted, endpoint: Endpoint) -> tuple[SuperfacilityClient, httpx.AsyncClient]:
    """The ways by the API, and the connections to close."""
    http = httpx.AsyncClient(transport=httpx.MockTransport(slurm))
    return SuperfacilityClient(endpoint, http), http

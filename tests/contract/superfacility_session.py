"""A minimal client of the Superfacility API for contract tests: a token as NERSC's own client asks, and calls.

All of it is plain HTTP; `verify=False` spares each client the reading of all CAs, 27 ms of CPU time.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
import jwt

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
Value = TypeVar("Value")


@dataclass(frozen=True)
class Facility:
    """A started tests.world.superfacility; `slurm` is real or model."""

    ready: dict[str, Any]
    slurm: str

    def assertion(self, **changes: Any) -> str:
        now = int(time.time())
        claims = {
            "iss": self.ready["client_id"],
            "sub": self.ready["client_id"],
            "aud": self.ready["token_url"],
            "iat": now,
            "exp": now + 3600,
            "jti": str(uuid.uuid4()),
        }
        return jwt.encode(claims | changes, Path(self.ready["key_path"]).read_text(), algorithm="RS256")

    def ask_token(self, assertion: str) -> httpx.Response:
        form = {
            "grant_type": "client_credentials",
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": assertion,
        }
        return httpx.post(self.ready["token_url"], data=form, verify=False)

    def client(self) -> httpx.Client:
        token = self.ask_token(self.assertion()).json()["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.Client(base_url=self.ready["api_base_url"], headers=headers, timeout=30, verify=False)

    def admin(self, method: str, path: str, /, **body: Any) -> Any:
        answer = httpx.request(method, self.ready["admin_url"] + path, json=body or None, verify=False)
        assert answer.status_code == 200, answer.text
        return answer.json()


def result_of(client: httpx.Client, task_id: str) -> dict[str, Any]:
    """Wait for a task and return its result."""

    def ended() -> dict[str, Any] | None:
        task = client.get(f"/tasks/{task_id}").json()
        return task if task["status"] != "new" else None

    result: dict[str, Any] = json.loads(eventually(ended)["result"])
    return result


def submit(client: httpx.Client, script: str, **form: Any) -> dict[str, Any]:
    """Submit a script and return the task's result."""
    answer = client.post("/compute/jobs/perlmutter", data={"job": script, "isPath": "false", **form}).json()
    assert answer["status"] == "OK"
    return result_of(client, answer["task_id"])


def jobs(client: httpx.Client, *kwargs: str, sacct: bool = False, **query: Any) -> list[dict[str, str]]:
    """Return a listing's rows."""
    params: dict[str, Any] = {"kwargs": list(kwargs), "sacct": sacct, "cached": False, **query}
    answer = client.get("/compute/jobs/perlmutter", params=params).json()
    assert answer["status"] == "OK", answer
    rows: list[dict[str, str]] = answer["output"]
    return rows


def eventually(look: Callable[[], Value | None], *, timeout_s: float = 40.0) -> Value:
    """Return the first true value of `look`."""
    until = time.monotonic() + timeout_s
    while not (value := look()):
        assert time.monotonic() < until, f"not within {timeout_s:g} s"
        time.sleep(0.1)
    return value


def script(*lines: str, options: Sequence[str] = ()) -> str:
    """Return a batch script for the regular QOS."""
    given = ["-q regular", "-C cpu", "-N 1", "-t 10", *options]
    return "\n".join(["#!/bin/bash", *(f"#SBATCH {option}" for option in given), *lines, ""])

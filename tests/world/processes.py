"""Start one of the world's programs (or a service) as a process, wait until it is ready, and stop it for certain.

A program of the world prints exactly one JSON line on stdout when it is ready; this module reads it with a bound.

    with start("tests.world.superfacility", "--port", "0", "--state", state, "--slurm", "model") as (process, ready):
        httpx.get(ready["api_base_url"] + "/status")
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
READY_LINE_MAX_BYTES = 65_536

_numbers = itertools.count(1)


class StartFailedError(RuntimeError):
    """The program ended, said something else than one JSON object, or stayed silent for too long."""


@contextlib.contextmanager
def start(
    module: str,
    *args: str,
    env: Mapping[str, str] | None = None,
    log_path: Path | None = None,
    ready_timeout_s: float = 60.0,
    stop_timeout_s: float = 30.0,
) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, Any]]]:
    """Run `python -m module *args` until the block ends; yields the process and the object of its ready line.

    `env` is added to this process's own environment. stderr goes to `log_path`, by default
    `build/logs/<name>-<pid>-<n>.log`.
    The process leads a session of its own, so that Ctrl-C reaches only the caller, who then leaves the block.
    Raises StartFailedError with the end of the log when there is no ready line within `ready_timeout_s`.
    """
    process = launch(module, *args, env=env, log_path=log_path)
    try:
        yield process, read_ready(process, timeout_s=ready_timeout_s)
    finally:
        stop(process, timeout_s=stop_timeout_s)


def launch(
    module: str, *args: str, env: Mapping[str, str] | None = None, log_path: Path | None = None
) -> subprocess.Popen[bytes]:
    """Start `python -m module *args` and return at once; the caller calls `read_ready`, and `stop` in the end."""
    if log_path is None:
        log_path = REPOSITORY / "build" / "logs" / f"{module.rpartition('.')[2]}-{os.getpid()}-{next(_numbers)}.log"
    log_path.parent.mkdir(parents=True, exist_ok=True)
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *args],
            cwd=REPOSITORY,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
    _logs[process.pid] = log_path
    return process


def read_ready(process: subprocess.Popen[bytes], *, timeout_s: float) -> dict[str, Any]:
    """Return the one JSON object that the program prints when it is ready; raises StartFailedError."""
    assert process.stdout is not None
    until = time.monotonic() + timeout_s
    line = b""
    while not line.endswith(b"\n"):
        remaining_s = until - time.monotonic()
        if remaining_s <= 0 or not select.select([process.stdout], [], [], remaining_s)[0]:
            raise StartFailedError(f"no ready line within {timeout_s:g} s from {_describe(process)}")
        piece = os.read(process.stdout.fileno(), 4096)
        if not piece:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=5)
            raise StartFailedError(f"ended with code {process.returncode} before it was ready: {_describe(process)}")
        line += piece
        if len(line) > READY_LINE_MAX_BYTES:
            raise StartFailedError(f"ready line longer than {READY_LINE_MAX_BYTES} bytes from {_describe(process)}")
    try:
        ready = json.loads(line)
    except ValueError as error:
        raise StartFailedError(
            f"ready line is not one JSON object from {_describe(process)}: {line[:200]!r}"
        ) from error
    if not isinstance(ready, dict):
        raise StartFailedError(f"ready line is not a JSON object from {_describe(process)}: {line[:200]!r}")
    return ready


def stop(process: subprocess.Popen[bytes], *, timeout_s: float = 30.0) -> int:
    """End the process by SIGTERM, after `timeout_s` by SIGKILL to its whole group; returns its exit code."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.stdout is not None:
        process.stdout.close()
    _logs.pop(process.pid, None)
    return process.returncode


_logs: dict[int, Path] = {}


def _describe(process: subprocess.Popen[bytes]) -> str:
    """The command and the end of its log."""
    assert isinstance(process.args, list)
    command = " ".join(str(word) for word in process.args[1:])
    path = _logs.get(process.pid)
    text = path.read_bytes()[-2000:].decode(errors="replace") if path is not None and path.exists() else ""
    return f"`python {command}`; end of its log:\n{text}"

"""Running a service as a process: exit codes, signals, the HTTP port."""

import json
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.unit.runtime.test_site import GOOD

SERVICE = """
import asyncio, sys
from libs.runtime import errors
from libs.runtime.run import run

async def serve(context):
    mode = context.options.mode
    if mode == "bug":
        raise KeyError("bug")
    if mode == "many":
        async with asyncio.TaskGroup() as group:
            group.create_task(fail(errors.Unreachable("one")))
            group.create_task(fail(errors.Misconfigured("two")))
    if mode != "serve":
        raise getattr(errors, mode)("the text")
    context.health.bad("thing", "not yet")
    await asyncio.sleep(0.1)
    context.health.good("thing")
    await context.stop.wait()
    print("drained", file=sys.stderr)

async def fail(error):
    await asyncio.sleep(0)
    raise error

sys.exit(run("queue_poller", serve, lambda parser: parser.add_argument("--mode")))
"""


def start(tmp_path: Path, *arguments: str, site: str = GOOD) -> subprocess.Popen[str]:
    path = tmp_path / "site.toml"
    path.write_text(site + '[telemetry]\nhttp_listen = "127.0.0.1:0"\n')
    command = [sys.executable, "-c", SERVICE, "--config", str(path), "--log-format", "json", *arguments]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    ("mode", "code"),
    [("Unreachable", 69), ("Refused", 77), ("Misconfigured", 78), ("Malformed", 77), ("bug", 1), ("many", 78)],
)
def test_exit_codes(tmp_path: Path, mode: str, code: int) -> None:
    """Each class of failure ends with its own code; named errors are one clear line, bugs a traceback."""
    process = start(tmp_path, "--mode", mode)
    text = process.communicate(timeout=30)[1]
    assert process.returncode == code
    assert ("Traceback" in text) == (mode == "bug")


def test_wrong_command_line_and_site(tmp_path: Path) -> None:
    """64 for the command line, 78 for the site file; the misspelt key is named in one line."""
    process = start(tmp_path, "--nonsense")
    assert "nonsense" in process.communicate(timeout=30)[1]
    assert process.returncode == 64
    process = start(tmp_path, "--mode", "serve", site=GOOD.replace("contact", "kontact"))
    text = process.communicate(timeout=30)[1]
    assert process.returncode == 78
    assert "did you mean 'contact'?" in text
    assert len(text.splitlines()) == 1


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_serves_health_and_drains(tmp_path: Path) -> None:
    """/livez, /readyz with the reason, /metrics as Prometheus text; SIGTERM drains and ends with 0."""
    process = start(tmp_path, "--mode", "serve")
    assert process.stderr is not None
    line = json.loads(process.stderr.readline())
    found = re.search(r"http://[\d.:]+", line["message"])
    assert found, line
    url = found.group()
    states = {get(f"{url}/readyz") for _ in range(1)}
    while (200, '{"not_ready":{}}') not in states:
        states.add(get(f"{url}/readyz"))
    assert all(status == 503 for status, body in states if body != '{"not_ready":{}}')
    assert get(f"{url}/livez") == (200, '{"hanging":{}}')
    assert "process_resident_memory_bytes" in get(f"{url}/metrics")[1]
    assert get(f"{url}/other")[0] == 404
    process.send_signal(signal.SIGTERM)
    assert "drained" in process.communicate(timeout=30)[1]
    assert process.returncode == 0

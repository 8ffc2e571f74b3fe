"""Starting a service with something wrong: one clear line, a distinct exit code, or waiting where waiting helps."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from libs.events import subjects
from tests.e2e.house import SERVICES, House, standing
from tests.nats_server import NatsServer
from tests.world.processes import REPOSITORY

pytestmark = pytest.mark.timeout(120)
MISCONFIGURED, UNREACHABLE = 78, 69


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A good house with a host certificate installed; the tests start services by spoilt copies of its site file."""
    folder = tmp_path_factory.mktemp("bad") / "house"
    with standing(folder, "model", services=(subjects.CERT_RENEWER,)) as house:
        yield house


@contextlib.contextmanager
def started(
    house: House, service: str, replaced: dict[str, str], *, nats_url: str = ""
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A service started with texts of the site file replaced, and its log; killed when left."""
    text = re.sub(r'listen = "127.0.0.1:\d+"', 'listen = "127.0.0.1:0"', house.site_file.read_text())
    for old, new in replaced.items():
        assert old in text, old
        text = text.replace(old, new)
    folder = house.folder / "spoiled"
    folder.mkdir(exist_ok=True)
    site = folder / "site.toml"
    site.write_text(text)
    environment = os.environ | {
        "NACRE_NATS_URL": nats_url or house.nats.url,
        "NACRE_HTTP_LISTEN": "127.0.0.1:0",
        "NACRE_LOG_FORMAT": "json",
    }
    command = [sys.executable, "-m", f"services.{service}", "--config", str(site)]
    log = folder / "log"
    with log.open("wb") as stderr:
        process = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stderr=stderr)
    try:
        yield process, log
    finally:
        process.kill()
        process.wait()


def outcome(house: House, service: str, replaced: dict[str, str], *, nats_url: str = "") -> tuple[int, str]:
    """Exit code and log of a service that ends by itself."""
    with started(house, service, replaced, nats_url=nats_url) as (process, log):
        return process.wait(timeout=20), log.read_text()


@pytest.mark.parametrize("service", SERVICES)
def test_misspelt_setting(house: House, service: str) -> None:
    """A misspelt key stops every service with 78 and names the nearest valid one, in one line."""
    code, text = outcome(house, service, {"poll_interval_s": "pol_interval_s"})
    assert code == MISCONFIGURED
    assert "did you mean 'poll_interval_s'?" in text
    assert len(text.strip().splitlines()) == 1


@pytest.mark.parametrize("service", SERVICES)
def test_nats_away(house: House, service: str) -> None:
    """Without NATS every service ends with 69 after its patience, so that the orchestrator tries again."""
    impatient = {"[telemetry]": "[bus]\nconnect_patience_s = 1\n[telemetry]"}
    code, text = outcome(house, service, impatient, nats_url="nats://127.0.0.1:1")
    assert code == UNREACHABLE
    assert "NATS at nats://127.0.0.1:1 did not answer" in text


@pytest.mark.parametrize("service", ["queue_poller", "cert_renewer", "slurm_submitter", "status_tracker"])
def test_missing_secret(house: House, service: str) -> None:
    """A missing secret file stops the service that needs it, with 78 and the file's name."""
    old = "client_key_file = " if service in {"slurm_submitter", "status_tracker"} else "key = "
    line = next(line for line in house.site_file.read_text().splitlines() if line.startswith(old))
    code, text = outcome(house, service, {line: f'{old}"/nowhere/secret.pem"'})
    assert code == MISCONFIGURED
    assert "/nowhere/secret.pem" in text


@pytest.mark.parametrize("service", ["slurm_submitter", "status_tracker"])
def test_unusable_key(house: House, service: str) -> None:
    """A file that is no key stops the start, and nothing of its content is shown."""
    wrong = house.folder / "wrong.pem"
    wrong.write_text("s3cr3t")
    line = next(line for line in house.site_file.read_text().splitlines() if line.startswith("client_key_file"))
    code, text = outcome(house, service, {line: f'client_key_file = "{wrong}"'})
    assert code == MISCONFIGURED
    assert "not an RSA private key" in text
    assert "s3cr3t" not in text


@pytest.mark.parametrize("service", [service for service in SERVICES if service != "monitoring_relay"])
def test_missing_streams_wait(house: House, service: str, tmp_path: Path) -> None:
    """On a NATS without streams a service keeps trying, and its log says to run `nacre bus init`."""
    bare = NatsServer(tmp_path / "nats")
    bare.start()
    try:
        with started(house, service, {}, nats_url=bare.url) as (process, log):
            until = time.monotonic() + 20
            while "nacre bus init" not in log.read_text():
                assert time.monotonic() < until, log.read_text()
                time.sleep(0.1)
            time.sleep(0.5)
            assert process.poll() is None, log.read_text()
    finally:
        bare.stop()


def test_interrupted_demo_cleans_up(tmp_path: Path) -> None:
    """Ctrl-C in the middle leaves no process behind, and says so."""
    folder = tmp_path / "demo"
    command = [
        sys.executable,
        "-m",
        "tests.e2e.demo",
        "--slurm",
        "model",
        "--folder",
        str(folder),
        "--grid-jobs",
        "200",
    ]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if "grid jobs added" in line:
            break
    time.sleep(2)
    process.send_signal(2)
    text = process.communicate(timeout=60)[0]
    assert process.returncode == 130
    assert "interrupted" in text
    left = subprocess.run(["pgrep", "-f", str(folder)], capture_output=True, text=True, check=False).stdout
    assert left == ""
    shutil.rmtree(folder)

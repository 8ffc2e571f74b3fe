"""The whole house in containers, as Docker Compose runs it; the demo's journey sees it as any other house."""

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.house import ask, total
from tests.world.processes import REPOSITORY

PROJECT = "nacre-test"
# Port 0: any free one, so that it stands beside a house of `make up`.
SETTINGS = {
    "NACRE_HEALTH_INTERVAL": "2s",
    "NACRE_NATS_PORT": "0",
    "NACRE_RELAY_PORT": "0",
    "NACRE_WORLD_CENTRAL_PORT": "0",
    "NACRE_WORLD_FACILITY_PORT": "0",
    "NACRE_WORLD_MONALISA_PORT": "0",
}
HEALTHY_S = 120


class ComposeFailedError(Exception):
    """Docker Compose ended with an error; the text is the end of what it said."""


@dataclass
class Containers:
    """The house and its world; `seconds` says how long building and becoming healthy took."""

    folder: Path
    slurm: str = "real"
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def nats_url(self) -> str:
        """Where its bus is, seen from this machine."""
        return f"nats://{self._address('nats', 4222)}"

    def metric(self, service: str, name: str) -> int:
        """A counter of a service, summed over its labels; 0 while it has not counted."""
        script = (
            "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8080/metrics', timeout=5).read().decode())"
        )
        asked = ("exec", "--no-TTY", service.replace("_", "-"), "python", "-c", script)
        return total(self.compose(*asked), name)

    def central(self, path: str, body: Any = None) -> Any:
        """Ask or tell the central services' admin port."""
        return ask(f"http://{self._address('central-services', 8080)}{path}", body)

    def facility(self, path: str, body: Any = None) -> Any:
        """Ask or tell the facility's admin port."""
        return ask(f"http://{self._address('superfacility', 8080)}{path}", body)

    def monalisa(self, path: str) -> Any:
        """Ask MonALISA's admin port."""
        return ask(f"http://{self._address('monalisa', 8080)}{path}")

    def compose(self, *arguments: str) -> str:
        """Run `docker compose` for this house; raises ComposeFailedError."""
        command = ["docker", "compose", "--project-name", PROJECT, "--profile", "world", *arguments]
        log = self.folder / "compose.log"
        with log.open("a") as said:
            done = subprocess.run(
                command,
                cwd=REPOSITORY,
                env={**os.environ, **SETTINGS},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
                check=False,
            )
            said.write(done.stdout)
        if done.returncode != 0:
            raise ComposeFailedError(f"docker compose {arguments[0]} failed:\n{log.read_text()[-2000:]}")
        return done.stdout

    def build(self) -> None:
        """Build the images, from the cache as far as it goes."""
        with self._timed("image_build"):
            self.compose("build")

    def up(self) -> None:
        """Start everything and wait until it is healthy."""
        with self._timed("healthy"):
            self.compose("up", "--detach", "--no-build", "--wait", "--wait-timeout", str(HEALTHY_S))

    def down(self) -> None:
        """Stop everything and forget its state."""
        self._addresses.clear()
        self.compose("down", "--volumes", "--remove-orphans", "--timeout", "20")

    def keep_logs(self) -> None:
        """Write what each container said to `<folder>/logs/<service>.log`."""
        (self.folder / "logs").mkdir(exist_ok=True)
        for service in self.compose("config", "--services").split():
            (self.folder / "logs" / f"{service}.log").write_text(self.compose("logs", "--no-log-prefix", service))

    def unconfined(self) -> list[str]:
        """What a running container may do that it must not: be root, hold or gain capabilities, write to its root."""
        wrong: list[str] = []
        for service in self.compose("ps", "--services").split():
            script = "cat /proc/self/status; if touch /written 2>/dev/null; then echo Written: /; fi"
            said = self.compose("exec", "--no-TTY", service, "sh", "-c", script)
            status = dict(line.split(":", 1) for line in said.splitlines())
            if "0" in status["Uid"].split():
                wrong.append(f"{service} runs as root")
            if any(int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd")):
                wrong.append(f"{service} has capabilities")
            if status["NoNewPrivs"].strip() != "1":
                wrong.append(f"{service} can gain privileges")
            if "Written" in status:
                wrong.append(f"{service} can write to its root")
        return wrong

    @contextlib.contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        started_s = time.monotonic()
        yield
        self.seconds[what] = round(time.monotonic() - started_s, 1)

    def _address(self, service: str, port: int) -> str:
        if service not in self._addresses:
            self._addresses[service] = self.compose("port", service, str(port)).strip()
        return self._addresses[service]

    _addresses: dict[str, str] = field(default_factory=dict)


@contextlib.contextmanager
def standing(folder: Path) -> Iterator[Containers]:
    """A whole house, built and healthy; all of it is gone when left, but for its logs in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "compose.log").unlink(missing_ok=True)
    house = Containers(folder=folder)
    house.down()  # what a killed run left behind
    house.build()
    try:
        house.up()
        yield house
    finally:
        house.keep_logs()
        house.down()

"""The whole house on one machine: nats-server, the world's programs and every service, as processes of their own."""

import contextlib
import json
import re
import shutil
import socket
import string
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from libs.events import subjects
from tests.nats_server import NatsServer
from tests.world import processes

SERVICES = [service for service in subjects.SERVICES if service != subjects.OPERATOR_CONSOLE]
CE, GPU_CE = "demo-cpu", "demo-gpu"
SITE = "JTestSite"
TEMPLATE = Path(__file__).parent / "site.toml"
CE_NAMES = {ce: f"ALICE::{SITE}::{ce}" for ce in (CE, GPU_CE)}


@dataclass
class House:
    """Everything that runs; `ready` holds each world program's ready line, `processes_of` each service's process."""

    folder: Path
    nats: NatsServer
    slurm: str
    ready: dict[str, dict[str, Any]] = field(default_factory=dict)
    world: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    processes_of: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)

    @property
    def site_file(self) -> Path:
        """The generated site file."""
        return self.folder / "site.toml"

    @property
    def nats_url(self) -> str:
        """Where its bus is."""
        return self.nats.url

    @property
    def ce_name(self) -> str:
        """The full name of the CE that most things are tried on."""
        return CE_NAMES[CE]

    def start_world(
        self, program: str, *arguments: str, env: dict[str, str] | None = None, timeout_s: float = 60.0
    ) -> None:
        """Start one of the world's programs and wait until it is ready."""
        log = self.folder / "logs" / f"{program}.log"
        process = processes.launch(f"tests.world.{program}", *arguments, env=env, log_path=log)
        self.world[program] = process
        self.ready[program] = processes.read_ready(process, timeout_s=timeout_s)

    def stop_world(self, program: str) -> None:
        """End one of the world's programs, if it runs."""
        if program in self.world:
            processes.stop(self.world.pop(program))

    def restart_central_services(self) -> None:
        """Start the central services again, at the ports that everybody knows, with what they had on disk."""
        known = self.ready["central_services"]
        ports = {name: str(known[f"{name}_url"].rpartition(":")[2]).strip("/") for name in ("admin", "agent")}
        state = ("--state", str(self.folder / "world" / "central"), "--site", SITE, "--ce", CE, "--ce", GPU_CE)
        at = ("--port", str(known["port"]), "--admin-port", ports["admin"], "--agent-port", ports["agent"])
        self.start_world("central_services", *state, *at)

    def start_service(self, service: str, number: int = 1) -> None:
        """Start one service, or a further instance of it; its log is `<folder>/logs/<service>.log`, `...-2.log`."""
        name = instance(service, number)
        self.ports.setdefault(name, free_port())
        self.processes_of[name] = processes.launch(
            f"services.{service}",
            "--config",
            str(self.site_file),
            env={
                "NACRE_NATS_URL": self.nats.url,
                "NACRE_HTTP_LISTEN": f"127.0.0.1:{self.ports[name]}",
                "NACRE_INSTANCE": f"{service.replace('_', '-')}-{number}",
                "NACRE_LOG_FORMAT": "json",
            },
            log_path=self.folder / "logs" / f"{name}.log",
        )

    def kill_service(self, service: str) -> None:
        """Kill -9."""
        self.processes_of[service].kill()
        processes.stop(self.processes_of[service])

    def not_ready(self, service: str) -> str:
        """Why a service is not ready; empty when it is. An ended process is a RuntimeError."""
        process = self.processes_of[service]
        if process.poll() is not None:
            log = (self.folder / "logs" / f"{service}.log").read_text().strip()
            raise RuntimeError(f"{service} ended with {process.returncode}; its log ends:\n{log[-2000:]}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[service]}/readyz", timeout=2):
                return ""
        except urllib.error.HTTPError as error:
            with error:
                return error.read().decode()
        except OSError as error:
            return str(error)

    def wait_ready(self, timeout_s: float = 30.0) -> None:
        """Wait until every service is ready; TimeoutError says which is not, and why."""
        deadline = time.monotonic() + timeout_s
        while True:
            waiting = {service: why for service in self.processes_of if (why := self.not_ready(service))}
            if not waiting:
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"not ready after {timeout_s:.0f} s: {waiting}")
            time.sleep(0.1)

    def wait_installed(self, timeout_s: float = 20.0) -> None:
        """Wait until cert_renewer has installed the first host certificate, which others need at their start."""
        deadline = time.monotonic() + timeout_s
        while not (self.folder / ".config" / "host_certificate" / "current").exists():
            if self.processes_of[subjects.CERT_RENEWER].poll() is not None or time.monotonic() > deadline:
                raise TimeoutError(f"no host certificate is installed: {self.not_ready(subjects.CERT_RENEWER)}")
            time.sleep(0.02)

    def metric(self, service: str, name: str) -> int:
        """A counter of a service, summed over its labels; 0 while it has not counted."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[service]}/metrics", timeout=5) as answer:
            return total(answer.read().decode(), name)

    def central(self, path: str, body: Any = None) -> Any:
        """Ask or tell the central services' admin port."""
        return ask(self.ready["central_services"]["admin_url"] + path, body)

    def facility(self, path: str, body: Any = None) -> Any:
        """Ask or tell the facility's admin port."""
        return ask(self.ready["superfacility"]["admin_url"] + path, body)

    def forget_faults(self) -> None:
        """Take back every fault that was asked for and has not happened."""
        self._forget("/_faults")

    def cancel_outages(self) -> None:
        """Take back every planned outage."""
        self._forget("/_outages")

    def _forget(self, path: str) -> None:
        request = urllib.request.Request(self.ready["superfacility"]["admin_url"] + path, method="DELETE")
        with urllib.request.urlopen(request, timeout=30):
            pass

    def monalisa(self, path: str) -> Any:
        """Ask MonALISA's admin port."""
        return ask(self.ready["monalisa"]["admin_url"] + path)


def instance(service: str, number: int) -> str:
    """How an instance is called here: the first as its service."""
    return service if number == 1 else f"{service}-{number}"


def total(metrics: str, name: str) -> int:
    """A counter out of Prometheus text, summed over its labels; 0 where it does not stand."""
    lines = [line for line in metrics.splitlines() if re.match(rf"{name}[ {{]", line)]
    return int(sum(float(line.rpartition(" ")[2]) for line in lines))


def ask(url: str, body: Any = None) -> Any:
    """GET, or POST with a JSON body; the JSON answer."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read() or b"null")


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A port that is free just now."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def real_slurm_installed() -> bool:
    """True when a real Slurm with accounting can be started here."""
    command = [sys.executable, "-m", "tests.world.slurm", "--check"]
    return subprocess.run(command, cwd=processes.REPOSITORY, capture_output=True, check=False).returncode == 0


@contextlib.contextmanager
def standing(
    folder: Path,
    slurm: str,
    *,
    facility: tuple[str, ...] = (),
    max_queued: int = 20,
    services: Sequence[str] = tuple(SERVICES),
) -> Iterator[House]:
    """A whole house in `folder`, everything ready; all of it is stopped when left. `slurm` is `real` or `model`."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "logs").mkdir(parents=True)
    nats = NatsServer(folder / "nats")
    house = House(folder=folder, nats=nats, slurm=slurm)
    with contextlib.ExitStack() as stack:
        nats.start()
        stack.callback(nats.stop)
        _start_world(house, stack, facility, max_queued)
        write_site_file(house)
        initialise_bus(house)
        stack.callback(stop_services, house)
        if subjects.CERT_RENEWER in services:
            house.start_service(subjects.CERT_RENEWER)
            house.wait_installed()
        for service in services:
            if service != subjects.CERT_RENEWER:
                house.start_service(service)
        house.wait_ready()
        yield house


def initialise_bus(house: House) -> None:
    """`nacre bus init`, as an operator's container runs it."""
    command = [sys.executable, "-m", "services.operator_console.cli", "bus", "init", "--url", house.nats.url]
    subprocess.run(command, cwd=processes.REPOSITORY, check=True, stdout=subprocess.DEVNULL, timeout=30)


def _start_world(house: House, stack: contextlib.ExitStack, facility: tuple[str, ...], max_queued: int) -> None:
    def world(program: str, *arguments: str, env: dict[str, str] | None = None, timeout_s: float = 60.0) -> None:
        # What started first ends last, and what runs under the name by then, should it have been restarted.
        stack.callback(house.stop_world, program)
        house.start_world(program, *arguments, env=env, timeout_s=timeout_s)

    state = house.folder / "world"
    environment: dict[str, str] = {}
    user: tuple[str, ...] = ()
    if house.slurm == "real":
        world("slurm", "--state", str(state / "slurm"), "--nodes", "8", "--gpu-nodes", "2", timeout_s=90.0)
        slurm = house.ready["slurm"]
        environment = slurm["environment"]
        user = ("--user", slurm["user"], "--account", slurm["account"])
    central = ("--port", "0", "--state", str(state / "central"), "--site", SITE, "--max-queued", str(max_queued))
    world("central_services", *central, "--ce", CE, "--ce", GPU_CE)
    nodes = ("--nodes", "8", "--gpu-nodes", "2") if house.slurm == "model" else ()
    api = ("--port", "0", "--state", str(state / "facility"), "--slurm", house.slurm, *nodes)
    world("superfacility", *api, *user, *facility, env=environment)
    world("monalisa", "--port", "0")


def stop_services(house: House) -> None:
    """End every service in order."""
    for process in house.processes_of.values():
        if process.poll() is None:
            process.terminate()
    for process in house.processes_of.values():
        processes.stop(process)


def write_site_file(house: House, template: Path = TEMPLATE, **more: object) -> None:
    """Fill in a template with what the world's programs said when they were ready, and `more`."""
    central, api = (house.ready[name] for name in ("central_services", "superfacility"))
    monalisa = house.ready.get("monalisa", {"host": "127.0.0.1", "port": 1})
    secrets, hostcert, work = (house.folder / name for name in ("secrets", "hostcert", "scratch"))
    for directory in (secrets, hostcert, work):
        directory.mkdir(exist_ok=True)
    (secrets / "client_id").write_text(api["client_id"])
    shutil.copy(central["cert"], hostcert / "hostcert.pem")
    shutil.copy(central["key"], hostcert / "hostkey.pem")
    agent = (
        f"{sys.executable} {processes.REPOSITORY}/tests/world/job_agent.py --central {central['agent_url']} "
        f"--ca {central['ca']} --retry-pause-s 0.5 --report-every-s 1"
    )
    values: dict[str, object] = {
        "folder": house.folder,
        "ce": CE,
        "ce_name": CE_NAMES[CE],
        "gpu_ce": GPU_CE,
        "gpu_ce_name": CE_NAMES[GPU_CE],
        "ce_host": central["ce_host"],
        "site": central["site"],
        "account": central["account"],
        "ca": central["ca"],
        "central_port": central["port"],
        "hostcert": hostcert,
        "secrets": secrets,
        "work": work,
        "agent": agent,
        "api_url": api["api_base_url"],
        "token_url": api["token_url"],
        "client_key": api["key_path"],
        "user": api["user"],
        "slurm_account": api["account"],
        "relay": f"127.0.0.1:{free_port(socket.SOCK_DGRAM)}",
        "monalisa_host": monalisa["host"],
        "monalisa_port": monalisa["port"],
    }
    house.site_file.write_text(string.Template(template.read_text()).substitute(values | more))

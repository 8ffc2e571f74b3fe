"""One private Slurm: munged, mariadbd, slurmdbd, slurmctld and N slurmd as children of this process.

The daemons stay in the foreground of their own sessions (never called by Debian's `-wlm` names, with which slurmctld
crashes), so that their parent sees them die and none is left behind.
"""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.world.slurm import filled_database, leftovers
from tests.world.slurm.configuration import ACCOUNT, DEFAULT_QOS, MACHINE, QOS_LIMITS, Layout, slurm_conf, slurmdbd_conf

OWN_DIRECTORIES = ("state", "spool", "munge", "db", "log")
# Slurm appends spool/<node>/<node>_<job>.<step> and sockets end at 107 characters.
PATH_MAX_CHARACTERS = 60
PROGRAMS = ("munged", "mariadbd", "mariadb", "mariadb-admin", "mariadb-install-db", "slurmdbd", "slurmctld", "slurmd")
CLIENTS = ("sbatch", "squeue", "sacct", "scancel", "sinfo", "scontrol", "sacctmgr")


def find_program(name: str) -> str | None:
    """Return where a program is, also when /usr/sbin is not on PATH."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")


def missing_programs() -> list[str]:
    """Return the programs of a real Slurm with accounting that this machine lacks."""
    return [name for name in (*PROGRAMS, *CLIENTS) if find_program(name) is None]


class Cluster:
    """A real Slurm in one directory; `start` it, and `stop` it whatever happened in between."""

    def __init__(
        self,
        directory: Path,
        *,
        nodes: int,
        cpus: int,
        gpu_nodes: int = 0,
        address: str = "127.0.0.1",
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = directory.resolve()
        self._link: Path | None = None
        ports = _free_ports(nodes + gpu_nodes + 3)
        self.layout = Layout(
            path=self._short_path(),
            host=socket.gethostname().partition(".")[0],
            address=address,
            user=getpass.getuser(),
            nodes=nodes,
            gpu_nodes=gpu_nodes,
            cpus=cpus,
            controller_port=ports[0],
            accounting_port=ports[1],
            database_port=ports[2],
            node_ports=tuple(ports[3:]),
            settings=settings or {},
        )
        self.environment = {"SLURM_CONF": str(self.layout.path / "slurm.conf")}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._filled = filled_database.place(
            getpass.getuser(), *(find_program(name) or name for name in ("mariadbd", "slurmdbd"))
        )

    def start(self) -> None:
        """Bring everything up until every node is idle; raises RuntimeError or subprocess.SubprocessError."""
        self._clear()
        path = self.layout.path
        for name in OWN_DIRECTORIES:
            (path / name).mkdir(parents=True)
        os.chmod(path / "munge", 0o755)
        (path / "munge" / "key").write_bytes(os.urandom(128))
        (path / "munge" / "key").chmod(0o400)
        (path / "slurm.conf").write_text(slurm_conf(self.layout))
        (path / "slurmdbd.conf").touch(mode=0o600)
        (path / "slurmdbd.conf").write_text(slurmdbd_conf(self.layout))
        self._start_munged()
        if not filled_database.copy(self._filled, path / "db"):
            self._install_database()
            self._start_accounting()
            self._fill_accounting()
            self._terminate(["slurmdbd"])
            self._terminate(["mariadbd"])
            filled_database.keep(path / "db", self._filled)
        self._start_accounting()
        self._start_controller()
        for name in self.layout.node_names:
            (path / "spool" / name).mkdir()
            self.start_node(name)
        # A command that finds no controller tries again only after a second.
        self._wait("slurmctld", self._controller_listens)
        self._wait("slurmctld", self._all_idle, timeout_s=30 + len(self.layout.node_names) / 4)

    def stop(self) -> None:
        """Cancel every job, end every daemon, remove the state; logs stay."""
        if "slurmctld" in self._processes and self._processes["slurmctld"].poll() is None:
            with contextlib.suppress(subprocess.SubprocessError):
                self._run("scancel", "-u", self.layout.user, timeout_s=10)
                self._wait_for_steps(timeout_s=1)
        nodes = [name for name in self._processes if name.startswith("slurmd.")]
        # A job may ignore its signal, and slurmctld would take two seconds to save a state that is removed.
        self._terminate(nodes, timeout_s=0.2)
        self._terminate(["slurmctld"], timeout_s=0.2)
        self._terminate(["slurmdbd"])
        self._terminate(["mariadbd", "munged"])
        leftovers.kill_all(self.directory)
        self._clear(keep_logs=True)
        if self._link is not None:
            self._link.unlink(missing_ok=True)

    def crash_controller(self) -> None:
        """Kill -9 slurmctld and start it again from what it had saved, which may lack jobs that it acknowledged."""
        self._processes["slurmctld"].kill()
        self._processes["slurmctld"].wait()
        self._start_controller()
        self._wait("slurmctld", lambda: self._succeeds("scontrol", "ping"))

    def crash_node(self, name: str) -> None:
        """Kill -9 a node: its slurmd, its steps and what they run."""
        leftovers.kill_all(self.directory, node=name)
        self._processes.pop(f"slurmd.{name}").wait()

    def start_node(self, name: str) -> None:
        """Start a node's slurmd."""
        self._daemon(f"slurmd.{name}", "slurmd", "-D", "-N", name, "-f", str(self.layout.path / "slurm.conf"))

    def run(self, program: str, *args: str, timeout_s: float = 60.0) -> str:
        """What one of Slurm's commands prints; RuntimeError when it fails."""
        return self._run(program, *args, timeout_s=timeout_s)

    def dead(self) -> dict[str, int]:
        """Return the daemons that ended although nobody asked, with their exit codes."""
        return {name: process.returncode for name, process in self._processes.items() if process.poll() is not None}

    def ready(self) -> dict[str, object]:
        """Return what this program prints when it is ready."""
        return {
            "environment": self.environment,
            "user": self.layout.user,
            "account": ACCOUNT,
            "qos": list(QOS_LIMITS),
            "machine": MACHINE,
            "nodes": self.layout.nodes,
            "cpus": self.layout.cpus,
            "state": str(self.directory),
        }

    def _start_controller(self) -> None:
        self._daemon("slurmctld", "slurmctld", "-D", "-f", str(self.layout.path / "slurm.conf"))

    def _short_path(self) -> Path:
        if len(str(self.directory)) <= PATH_MAX_CHARACTERS:
            return self.directory
        name = hashlib.sha256(str(self.directory).encode()).hexdigest()[:10]
        self._link = Path(tempfile.gettempdir()) / f"nacre-slurm-{name}"
        self._link.unlink(missing_ok=True)
        self.directory.mkdir(parents=True, exist_ok=True)
        self._link.symlink_to(self.directory)
        return self._link

    def _clear(self, *, keep_logs: bool = False) -> None:
        """Remove what an earlier run left behind: daemons first, then our own files only."""
        found = leftovers.kill_all(self.directory)
        if found and not keep_logs:
            print(f"killed {len(found)} processes of an earlier run in {self.directory}", file=sys.stderr)
        for name in OWN_DIRECTORIES:
            if not (keep_logs and name == "log"):
                shutil.rmtree(self.directory / name, ignore_errors=True)
        for pattern in ("slurm*.conf", "slurm*.pid"):
            for file in self.directory.glob(pattern):
                file.unlink(missing_ok=True)

    def _start_munged(self) -> None:
        path = self.layout.path / "munge"
        self._daemon(
            "munged", "munged", "--foreground", "--force",
            f"--key-file={path}/key", f"--socket={path}/munge.socket", f"--pid-file={path}/munged.pid",
            f"--seed-file={path}/seed", f"--log-file={path}/munged.log",
        )  # fmt: skip
        self._wait("munged", self.layout.munge_socket.exists)

    def _install_database(self) -> None:
        path, user = self.layout.path, self.layout.user
        self._run(
            "mariadb-install-db", "--no-defaults", f"--user={user}", f"--datadir={path}/db", "--skip-test-db",
            "--auth-root-authentication-method=socket", f"--auth-root-socket-user={user}", "--innodb-log-file-size=8M",
        )  # fmt: skip
        self._start_mariadbd()
        grants = "".join(
            f"create user 'slurm'@'{host}' identified by 'devonly'; grant all on slurm_acct_db.* to 'slurm'@'{host}';"
            for host in ("127.0.0.1", "localhost")
        )
        self._run("mariadb", *self._login(), "-e", f"create database slurm_acct_db; {grants}")
        self._terminate(["mariadbd"])

    def _start_accounting(self) -> None:
        self._start_mariadbd()
        self._daemon("slurmdbd", "slurmdbd", "-D", SLURMDBD_CONF=str(self.layout.path / "slurmdbd.conf"))
        self._wait("slurmdbd", lambda: self._succeeds("sacctmgr", "-n", "show", "cluster"))

    def _start_mariadbd(self) -> None:
        path, user = self.layout.path, self.layout.user
        self._daemon(
            "mariadbd", "mariadbd", "--no-defaults", f"--user={user}", f"--datadir={path}/db",
            f"--socket={path}/db/sock", f"--pid-file={path}/db/pid", "--bind-address=127.0.0.1",
            f"--port={self.layout.database_port}", "--innodb-log-file-size=8M", "--innodb-buffer-pool-size=128M",
            "--innodb-lock-wait-timeout=900", "--innodb-flush-log-at-trx-commit=2",
        )  # fmt: skip
        self._wait("mariadbd", lambda: self._succeeds("mariadb-admin", *self._login(), "ping"))

    def _login(self) -> tuple[str, ...]:
        return ("--no-defaults", f"--socket={self.layout.path}/db/sock", f"--user={self.layout.user}")

    def _fill_accounting(self) -> None:
        manage = ("sacctmgr", "-i")
        self._run(*manage, "add", "cluster", MACHINE)
        self._run(*manage, "add", "account", ACCOUNT, f"cluster={MACHINE}")
        for name, limits in QOS_LIMITS.items():
            self._run(*manage, "add", "qos", name, "set", *limits)
        self._run(
            *manage, "add", "user", self.layout.user, f"account={ACCOUNT}",
            f"qos={','.join(QOS_LIMITS)}", f"defaultqos={DEFAULT_QOS}",
        )  # fmt: skip
        # slurmdbd gives root an account of its own, which would be the default one.
        self._run(*manage, "modify", "user", self.layout.user, "set", f"defaultaccount={ACCOUNT}")

    def _controller_listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((self.layout.address, self.layout.controller_port)) == 0

    def _all_idle(self) -> bool:
        states = self._output("sinfo", "-h", "-N", "-o", "%t").split()
        return states == ["idle"] * len(self.layout.node_names)

    def _daemon(self, key: str, program: str, *args: str, **environment: str) -> None:
        with (self.layout.path / "log" / f"{key}.out").open("wb") as log:
            self._processes[key] = subprocess.Popen(
                [find_program(program) or program, *args],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment, **environment},
                start_new_session=True,
            )

    def _run(self, program: str, *args: str, timeout_s: float = 60.0) -> str:
        done = subprocess.run(
            [find_program(program) or program, *args],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env={**os.environ, **self.environment},
            timeout=timeout_s,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{program} {' '.join(args[:4])} failed ({done.returncode}): {done.stderr.strip()}")
        return done.stdout

    def _output(self, program: str, *args: str) -> str:
        with contextlib.suppress(RuntimeError):
            return self._run(program, *args)
        return ""

    def _succeeds(self, program: str, *args: str) -> bool:
        with contextlib.suppress(RuntimeError):
            self._run(program, *args)
            return True
        return False

    def _wait(self, daemon: str, done: Callable[[], bool], *, timeout_s: float = 30.0) -> None:
        until = time.monotonic() + timeout_s
        while not done():
            dead = self.dead()
            if dead:
                name, code = next(iter(dead.items()))
                raise RuntimeError(f"{name} ended with code {code}: {self._log_end(name)}")
            if time.monotonic() > until:
                raise RuntimeError(f"{daemon} is not ready after {timeout_s:g} s: {self._log_end(daemon)}")
            time.sleep(0.02)

    def _log_end(self, name: str) -> str:
        return (self.layout.path / "log" / f"{name}.out").read_bytes()[-800:].decode(errors="replace").strip()

    def _wait_for_steps(self, *, timeout_s: float) -> None:
        until = time.monotonic() + timeout_s
        while time.monotonic() < until and self._output("squeue", "-h", "-o", "%i"):
            time.sleep(0.1)

    def _terminate(self, names: list[str], *, timeout_s: float = 5.0) -> None:
        running = [process for name in names if (process := self._processes.get(name)) and process.poll() is None]
        for process in running:
            process.send_signal(signal.SIGTERM)
        until = time.monotonic() + timeout_s
        for process in running:
            try:
                process.wait(timeout=max(0.05, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for name in names:
            self._processes.pop(name, None)


def _free_ports(count: int) -> list[int]:
    """Return `count` ports that are free now, below the range the kernel gives to outgoing connections."""
    found: list[int] = []
    while len(found) < count:
        port = random.randint(15_000, 32_000)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            if port not in found:
                found.append(port)
    return found

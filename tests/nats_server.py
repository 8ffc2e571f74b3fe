"""A real nats-server for tests, the demo and the benchmarks."""

import contextlib
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path


def program() -> str:
    """Where nats-server is: beside the Python that runs us, where it is not on PATH."""
    return shutil.which("nats-server") or str(Path(sys.executable).parent / "nats-server")


class NatsServer:
    """A real nats-server with JetStream on a port of its own; `kill` and `start` keep port and store."""

    def __init__(self, store: Path, *, guarded_by: Path | None = None) -> None:
        """`guarded_by`: the folder `server` that `nacre bus accounts` made; else everybody may do everything."""
        self._store = store
        self._guarded_by = guarded_by
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"nats://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        configuration = self._store / "nats.conf"
        self._store.mkdir(parents=True, exist_ok=True)
        configuration.write_text(
            f'listen: "127.0.0.1:{self.port}"\njetstream {{ store_dir: "{self._store}", max_mem: 512MB, max_file: 3GB, '
            "sync_interval: always }\n" + self._guards()
        )
        self._process = subprocess.Popen([program(), "-c", configuration], stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.01)
        raise TimeoutError("nats-server did not start in 10 s")

    def _guards(self) -> str:
        folder = self._guarded_by
        if folder is None:
            return ""
        # nats-server reads an include relative to the file that names it.
        link = self._store / "guards"
        link.unlink(missing_ok=True)
        link.symlink_to(folder.resolve())
        certificate = f'cert_file: "{folder}/server.pem", key_file: "{folder}/server-key.pem"'
        return f'tls {{ {certificate}, ca_file: "{folder}/ca.pem" }}\ninclude guards/accounts.conf\n'

    def reload(self) -> None:
        """Let it read its configuration anew, and give it the time to."""
        if self._process is not None:
            self._process.send_signal(signal.SIGHUP)
            time.sleep(0.3)

    def kill(self) -> None:
        """Kill -9."""
        self._end(signal.SIGKILL)

    def lose_store(self) -> None:
        """Remove everything that it kept, as a lost volume; call it between `kill` and `start`."""
        assert self._process is None, "a running server would write its files again"
        shutil.rmtree(self._store)

    def stop(self) -> None:
        """End it in order."""
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(10)
            self._process = None

    @property
    def pid(self) -> int:
        """Its process id; 0 while it does not run."""
        return self._process.pid if self._process else 0

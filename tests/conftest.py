"""Fixtures that every kind of test may use: a real nats-server, and the bus on it."""

import contextlib
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from libs.bus import connection, schema
from libs.bus.connection import Bus
from libs.runtime.health import Health


class NatsServer:
    """A real nats-server with JetStream on a port of its own; `kill` and `start` keep port and store."""

    def __init__(self, store: Path) -> None:
        self._store = store
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"nats://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        program = shutil.which("nats-server") or str(Path(sys.executable).parent / "nats-server")
        configuration = self._store / "nats.conf"
        self._store.mkdir(parents=True, exist_ok=True)
        configuration.write_text(
            f'listen: "127.0.0.1:{self.port}"\njetstream {{ store_dir: "{self._store}", max_mem: 512MB, max_file: 2GB, '
            "sync_interval: always }\n"
        )
        self._process = subprocess.Popen([program, "-c", configuration], stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.01)
        raise TimeoutError("nats-server did not start in 10 s")

    def kill(self) -> None:
        """Kill -9."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in order."""
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(10)
            self._process = None


@pytest.fixture
def nats_server(tmp_path: Path) -> Iterator[NatsServer]:
    """A fresh, empty nats-server."""
    server = NatsServer(tmp_path / "nats")
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def bus(nats_server: NatsServer) -> AsyncIterator[Bus]:
    """A connection to a fresh nats-server with every stream and bucket of the table."""
    async with connection.connected(nats_server.url, "tests/1", Health()) as bus:
        await schema.initialise(bus.js, 1)
        yield bus

"""The world's central services as a program: started, killed, started again on the same ports and state."""

import asyncio
import json
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from libs.alice.connection import Server, Settings
from libs.alice.identity import Identity

ROOT = Path(__file__).parents[3]


@dataclass
class World:
    """One program with its PKI and task queue in `state`; further arguments go to its command line."""

    state: Path
    arguments: tuple[str, ...] = ()
    ready: dict[str, Any] = field(default_factory=dict)
    _process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start it and wait for its ready line; a second start takes the same ports."""
        ports = ["--port", str(self.ready.get("port", 0))]
        for name in ("admin", "agent"):
            if url := self.ready.get(f"{name}_url"):
                ports += [f"--{name}-port", url.rpartition(":")[2]]
        command = [sys.executable, "-m", "tests.world.central_services", "--state", str(self.state), *ports]
        self.ready = await asyncio.to_thread(self._launch, [*command, *self.arguments])

    def _launch(self, command: list[str]) -> dict[str, Any]:
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert self._process.stdout is not None
        ready: dict[str, Any] = json.loads(self._process.stdout.readline())
        return ready

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it, kept state and all."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            await asyncio.to_thread(process.communicate, None, 20)

    async def tell(self, path: str, **body: object) -> None:
        """One call to the administrator's port."""
        async with httpx.AsyncClient(verify=False) as client:
            answer = await client.post(f"{self.ready['admin_url']}/{path}", json=body)
        assert answer.is_success, answer.text

    def settings(self, who: str = "", **changes: Any) -> Settings:
        """A client's settings: as the vobox account, or as `ordinary` or `unknown`."""
        prefix = f"{who}_" if who else ""
        found = {
            "servers": (Server(self.ready["host"], self.ready["port"]),),
            "identity": Identity(
                certificate=Path(self.ready[f"{prefix}cert"]),
                key=Path(self.ready[f"{prefix}key"]),
                ca=Path(self.ready["ca"]),
            ),
            "account": self.ready.get(f"{prefix}account", self.ready["account"]),
            "read_timeout_s": 5.0,
        }
        return Settings(**(found | changes))

"""The world's central services, a site file around them, and services run in this process."""

import asyncio
import contextlib
import json
import shutil
from argparse import Namespace
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from libs.runtime.run import Context, Serve
from libs.runtime.site import Site, load
from tests.contract.alice.world import World
from tests.nats_server import NatsServer


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Central services of the newer release with two CEs."""
    found = World(tmp_path / "central", ("--generation", "2024", "--ce", "firstce", "--ce", "secondce"))
    await found.start()
    yield found
    await found.stop()


@pytest.fixture
def site(world: World, tmp_path: Path) -> Site:
    """A site with both CEs, whose host certificate lies in a directory of its own, and quick intervals."""
    path = tmp_path / "site.toml"
    path.write_text(toml(tables(world, tmp_path)))
    return load(path)


def toml(found: dict[str, Any], prefix: str = "") -> str:
    """Tables of strings and numbers as a site file."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in found.items() if not isinstance(value, dict)]
    for key, value in found.items():
        if isinstance(value, dict):
            lines += ["", f"[{prefix}{key}]", toml(value, f"{prefix}{key}.")]
    return "\n".join(lines)


def tables(world: World, folder: Path) -> dict[str, Any]:
    """The site file as tables; secrets are laid out in `folder`."""
    host = folder / "host"
    host.mkdir(exist_ok=True)
    shutil.copy(world.ready["cert"], host / "hostcert.pem")
    shutil.copy(world.ready["key"], host / "hostkey.pem")
    client = folder / "client"
    client.mkdir(exist_ok=True)
    for name in ("id", "key"):
        (client / name).write_text("secret")
    (folder / "shared").mkdir(exist_ok=True)
    batch = {"account": "m1", "qos": "regular", "directory": "/tmp", "output": "/dev/null"}
    ces = {
        name.rpartition("::")[2]: {
            "name": name,
            "host": world.ready["ce_host"],
            "machine": "perlmutter",
            "batch": batch,
            "agent": {"command": "true", "token_file": str(folder / "shared" / "token")},
        }
        for name in world.ready["ces"]
    }
    return {
        "site": {"name": "JTestSite", "contact": "nobody@localhost"},
        "central_services": {
            "host": world.ready["host"],
            "port": world.ready["port"],
            "ca": world.ready["ca"],
            "certificate": str(host / "hostcert.pem"),
            "key": str(host / "hostkey.pem"),
            "account": world.ready["account"],
            "read_timeout_s": 5.0,
            "poll_interval_s": 0.2,
        },
        "machine": {
            "perlmutter": {
                "client_id_file": str(client / "id"),
                "client_key_file": str(client / "key"),
                "user": "nobody",
            }
        },
        "ce": ces,
        "monitoring": {"public_address": "127.0.0.1:8884", "destinations": ["127.0.0.1:1"]},
        "credentials": {
            "host_certificate_directory": str(host),
            "token_file": str(folder / "shared" / "token"),
            "token_refresh_s": 1.0,
            "check_interval_s": 0.3,
        },
    }


@contextlib.asynccontextmanager
async def running(name: str, serve: Serve, site: Site, nats: NatsServer) -> AsyncIterator[Context]:
    """Run a service as a task until left; its failure is raised there."""
    context = Context(service=name, instance="1", site=site, nats_url=nats.url, options=Namespace())
    task = asyncio.ensure_future(serve(context))
    try:
        yield context
    finally:
        context.stop.set()
        await asyncio.wait_for(task, 20)


async def until(holds: Callable[[], Any], timeout_s: float = 20.0) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(timeout_s):
        while not holds():
            await asyncio.sleep(0.02)

"""`python -m services.queue_poller --once` against the world's central services, without any bus."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.alice.world import ROOT, World
from tests.integration.central.conftest import tables, toml
from tests.integration.central.test_shadow import asked


@pytest.fixture
def taken_port() -> Iterator[str]:
    """An HTTP address that a running service holds already."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


async def once(folder: Path, found: dict[str, Any], http: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The report, where NATS is away and the HTTP port is taken."""
    config = folder / "site.toml"
    config.write_text(toml(found))
    command = [sys.executable, "-m", "services.queue_poller", "--once", "--config", str(config), *arguments]
    environment = os.environ | {"NACRE_NATS_URL": "nats://127.0.0.1:1", "NACRE_HTTP_LISTEN": http}
    return await asyncio.to_thread(
        subprocess.run, command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=30, check=False
    )


async def test_the_report_is_whole(world: World, tmp_path: Path, taken_port: str) -> None:
    """Who we are, roles, peer, code, limits, count and times of one CE; a lock of the other is no failure."""
    first, second = world.ready["ces"]
    await world.tell("grid_jobs", ce=first, count=5)
    await world.tell("lock", ce=second)
    found = tables(world, tmp_path)
    one = await once(tmp_path, found, taken_port, "--ce", "firstce")
    assert (one.returncode, one.stderr) == (0, "")
    for words in (
        world.ready["account"],
        "vobox",
        "/CN=localhost",
        "days left",
        "TLSv1.",
        "code 0: open",
        "100 active job agents, 10 of them queued",
        "waiting grid jobs   5",
        "site configuration  read from ALICE's directory",
        "ttl_s = 82800  (site file, below ce_ttl 87000)",
        "cores = 8  (ce_matcharg)",
        "partition = part1  (partitions)",
        "environment.RESERVED_DISK = 2048  (host_environment)",
        " ms",
        first,
    ):
        assert words in one.stdout
    assert second not in one.stdout
    full = await once(tmp_path, found, taken_port, "--ce", second)
    assert (full.returncode, "code -2: centrally locked" in full.stdout) == (0, True)
    both = await once(tmp_path, found, taken_port)
    assert first in both.stdout
    assert second in both.stdout


async def test_a_ce_in_shadow_mode_is_not_told_to_be_alive(world: World, tmp_path: Path, taken_port: str) -> None:
    """Free slots are not asked; the limits are the site file's."""
    found = tables(world, tmp_path)
    found["ce"]["firstce"] |= {"mode": "shadow", "limits": {"shadow_max_jobs": 7, "shadow_max_queued": 3}}
    before = len(await asked(world))
    one = await once(tmp_path, found, taken_port, "--ce", "firstce")
    assert (one.returncode, one.stderr) == (0, "")
    assert "not asked in shadow mode" in one.stdout
    assert "7 active job agents" in one.stdout
    names = [request["request"].rpartition(".")[2] for request in (await asked(world))[before:]]
    assert names == ["Ping", *["LDAPTreeRequest"] * 3, "LDAPInfoRequest", "GetNumberWaitingJobs"]


async def test_each_failing_step_is_one_line_and_an_exit_code(world: World, tmp_path: Path, taken_port: str) -> None:
    """A host unknown there, another server's trust, no such CE, an unfit key, and nobody there."""
    first, second = world.ready["ces"]
    found = tables(world, tmp_path)
    found["ce"]["firstce"]["host"] = "ghost.nowhere"
    mixed = await once(tmp_path, found, taken_port)
    assert (mixed.returncode, len(mixed.stderr.splitlines())) == (77, 1)
    assert f"{first}: free slots: host unknown" in mixed.stderr
    assert second in mixed.stdout
    wrong = await once(tmp_path, found, taken_port, "--ce", "nope")
    assert (wrong.returncode, wrong.stdout, "no CE 'nope'" in wrong.stderr) == (78, "", True)
    unfit = tables(world, tmp_path)
    unfit["central_services"]["key"] = str(tmp_path / "nowhere.pem")
    without = await once(tmp_path, unfit, taken_port)
    assert (without.returncode, len(without.stderr.splitlines())) == (78, 1)
    assert "nowhere.pem" in without.stderr
    await world.tell("_faults", kind="close_without_reply", request="LDAPTreeRequest", count=2)
    older = await once(tmp_path, tables(world, tmp_path), taken_port, "--ce", "firstce")
    assert (older.returncode, len(older.stderr.splitlines())) == (69, 1)
    assert f"{first}: site configuration: " in older.stderr
    assert "releases before 2024" in older.stderr
    assert "waiting grid jobs   0" in older.stdout
    await world.stop()
    away = await once(tmp_path, tables(world, tmp_path), taken_port)
    assert (away.returncode, len(away.stderr.splitlines())) == (69, 1)
    assert "refused the connection" in away.stderr

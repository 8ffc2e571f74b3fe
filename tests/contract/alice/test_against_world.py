"""Our client against the world's central services, which share no code with it."""

import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from libs.alice import answers, site_config
from libs.alice.answers import FreeSlots, WaitingJobs
from libs.alice.client import CentralServices
from libs.alice.connection import Connection
from libs.alice.failures import Lost
from libs.alice.identity import load
from libs.alice.requests import (
    CLASS_NAMES,
    FreeSlotsRequest,
    LdapInfoRequest,
    LdapTreeRequest,
    Request,
    TokenRequest,
    WaitingJobsRequest,
)
from libs.alice.site_map import CeFacts, site_map
from libs.runtime import clock
from libs.runtime.errors import Refused, Unreachable
from tests.contract.alice.world import World


@pytest.fixture(params=["2022", "2024"])
async def world(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[World]:
    found = World(tmp_path / "central", ("--generation", request.param))
    await found.start()
    yield found
    await found.stop()


async def test_the_three_requests_and_ping(world: World) -> None:
    """Limits, demand and a token as the real services give them, over 30 requests with and without resets."""
    ce, host = world.ready["ce"], world.ready["ce_host"]
    await world.tell("grid_jobs", ce=ce, count=40)
    await world.tell("limits", ce=ce, max_jobs=7, max_queued=3)
    match = site_map(CeFacts(ce=ce, host=host, ttl_s=86400, cores=8))
    async with CentralServices(world.settings()) as client:
        for _ in range(15):
            free = await client.free_slots(host, ce)
            assert (free.code, free.max_jobs, free.max_queued) == (0, 7, 3)
            assert (await client.waiting_jobs(match)).count == 40
        token = await client.job_agent_token(2)
        certificate = x509.load_der_x509_certificate(token.certificate_der)
        assert "CN=JobAgent" in certificate.subject.rfc4514_string()
        assert (await client.ping()).server_info


async def test_locked_unknown_and_refused(world: World) -> None:
    """Each way in which the central services say no arrives under its own name."""
    ce, host = world.ready["ce"], world.ready["ce_host"]
    async with CentralServices(world.settings()) as client:
        await world.tell("lock", ce=ce)
        assert (await client.free_slots(host, ce)).is_locked
        await world.tell("unlock", ce=ce)
        assert (await client.free_slots(host, ce)).code == 0
        assert (await client.free_slots("ghost.nowhere", ce)).code == 1
        with pytest.raises(Refused, match="Index 2 out of bounds"):
            await client.waiting_jobs(site_map(CeFacts(ce="bogus", host=host, ttl_s=86400)))
    async with CentralServices(world.settings("ordinary")) as client:
        with pytest.raises(Refused, match="permissions to ask for a JobAgent token"):
            await client.job_agent_token(2)
    async with CentralServices(world.settings("unknown", read_timeout_s=0.5)) as client:
        with pytest.raises(Unreachable, match="the LDAP subject of account"):
            await client.ping()


async def test_a_restart_of_the_server_costs_one_reconnect(world: World) -> None:
    """A kept connection that died with the server is replaced within the same request."""
    ce, host = world.ready["ce"], world.ready["ce_host"]
    async with CentralServices(world.settings()) as client:
        assert (await client.free_slots(host, ce)).code == 0
        await world.stop()
        with pytest.raises(Unreachable):
            await client.free_slots(host, ce)
        await world.start()
        assert (await client.free_slots(host, ce)).code == 0
        await world.stop()
        await world.start()
        assert (await client.free_slots(host, ce)).code == 0


async def test_uptime_counts_each_accounts_grid_jobs(world: World) -> None:
    """What waits for the CE is somebody's."""
    await world.tell("grid_jobs", ce=world.ready["ce"], count=40)
    async with CentralServices(world.settings()) as client:
        found = await client.uptime()
    assert sum(jobs.waiting for jobs in found.by_account.values()) == 40
    assert sum(jobs.running for jobs in found.by_account.values()) == 0


async def test_ldap_is_read_through_servers_since_2024(world: World) -> None:
    """A CE's entry as a map with its prefix, one attribute as a set, nothing found as such; 2022 hangs up instead."""
    host, name = world.ready["ce_host"], world.ready["ce"].rpartition("::")[2]
    async with CentralServices(world.settings()) as client:
        tree = LdapTreeRequest(f"(&(host={host}))", "ou=Sites,", "host")
        if "2022" in world.arguments:
            with pytest.raises(Lost, match="cannot read a request"):
                await client.ldap_tree(tree)
            return
        found = (await client.ldap_tree(tree)).attributes
        assert found["host_host"] == (host,)
        assert found["host_ce"] == (name,)
        assert any(len(values) > 1 for values in found.values())
        (dn,) = (await client.ldap_info(LdapInfoRequest(f"(&(host={host})(ce=*))", "ou=Sites,", "dn"))).values
        assert "ou=" in dn
        assert (await client.ldap_info(LdapInfoRequest("(host=ghost)", "ou=Sites,", "dn"))).values == ()
        assert (await client.ldap_tree(LdapTreeRequest("(host=ghost)", "ou=Sites,"))).attributes == {}


NEEDS: list[dict[str, Any]] = [
    {"count": 5},
    {"count": 1, "user": "alidaq"},
    {"count": 1, "cores": 8},
    {"count": 3, "cores": 64},
    {"count": 2, "sites": ["CERN"]},
    {"count": 5, "partition": "part2"},
]
COUNTED: list[tuple[dict[str, Any], int]] = [
    ({}, 10),
    ({"ttl_s": 3600}, 0),
    ({"ttl_s": 3601}, 10),
    ({"cores": 8}, 7),
    ({"cores": None}, 6),
    ({"users": ("alidaq",)}, 1),
    ({"no_users": ("alidaq",)}, 9),
    ({"required_cpus": ">=16"}, 3),
    ({"extra_sites": ("CERN",)}, 12),
    ({"partitions": ("part1", "part2")}, 15),
    ({"platform": "Linux-aarch64"}, 10),
    ({"disk": "1"}, 10),
]


async def test_the_broker_takes_every_key_with_its_type(world: World) -> None:
    """Each restriction counts the grid jobs that it should, so none is ignored or refused for its type."""
    plain = {"ce": world.ready["ce"], "host": world.ready["ce_host"], "ttl_s": 86400, "cores": 0}
    for need in NEEDS:
        await world.tell("grid_jobs", ttl_s=3600, **need)
    async with CentralServices(world.settings()) as client:
        for facts, count in COUNTED:
            asked = CeFacts(**(plain | {"partitions": ("part1",)} | facts))
            assert (await client.waiting_jobs(site_map(asked))).count == count, facts


async def test_the_recorded_exchange_of_25_requests_is_driven_live(world: World) -> None:
    """Twelve times free slots and waiting jobs, then a token, on one connection; the older release resets twice."""
    ce, host = world.ready["ce"], world.ready["ce_host"]
    await world.tell("grid_jobs", ce=ce, count=49)
    settings = world.settings()
    connection = await Connection.open(settings, settings.servers[0], load(settings.identity), uuid.uuid4())
    requests: list[Request] = [
        FreeSlotsRequest(host, ce),
        WaitingJobsRequest(site_map(CeFacts(ce=ce, host=host, ttl_s=86400, cores=8))),
    ] * 12
    requests.append(TokenRequest(settings.account, 2))
    try:
        for number, request in enumerate(requests, 1):
            reply = answers.answer(await connection.exchange(request, number), CLASS_NAMES[type(request)])
            if isinstance(request, FreeSlotsRequest):
                assert answers.free_slots(reply) == FreeSlots(0, 100, 10)
            elif isinstance(request, WaitingJobsRequest):
                assert answers.waiting_jobs(reply) == WaitingJobs(49, 1)
            else:
                assert answers.job_agent_token(reply).certificate_der
        assert connection.exchanges == 25
        assert connection.resets == (2 if "2022" in world.arguments else 0)
    finally:
        await connection.close()


async def test_a_ce_reads_its_site_configuration(world: World) -> None:
    """What the directory says arrives as settings with their origins; a change is seen as one."""
    if "2022" in world.arguments:
        pytest.skip("asked over LDAP itself, which these servers do not pass on")
    ce, host = world.ready["ce"], world.ready["ce_host"]
    asked = site_config.questions(ce, host)
    found = None
    async with CentralServices(world.settings()) as client:
        for _ in range(2):
            reading = asked.reading(
                site=await client.ldap_tree(asked.site),
                host=await client.ldap_tree(asked.host),
                ce=await client.ldap_tree(asked.ce),
                partitions=await client.ldap_info(asked.partitions),
            )
            found = site_config.observed(reading, found, ce="firstce", at=clock.now(), by="tests/1")
            await world.tell("site_config", ces={"firstce": {"ttl": "3600", "matcharg": "CPUCores=0"}})
    assert found is not None
    assert found.problems == []
    assert (found.ttl_s, found.cores, found.partitions) == (3600, 0, ["part1"])
    assert found.environment["RESERVED_DISK"] == "2048"
    assert found.environment["installationMethod"] == "CVMFS"
    assert found.close_storage == ["ALICE::JTestSite::EOS"]
    assert found.changes == ["cores: 8 -> 0 (ce_matcharg)", "ttl_s: 87000 -> 3600 (ce_ttl)"]

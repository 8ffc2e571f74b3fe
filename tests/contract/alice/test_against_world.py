"""Our client against the world's central services, which share no code with it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography import x509

from libs.alice.client import CentralServices
from libs.alice.failures import Lost
from libs.alice.requests import LdapInfoRequest, LdapTreeRequest
from libs.alice.site_map import CeFacts, site_map
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

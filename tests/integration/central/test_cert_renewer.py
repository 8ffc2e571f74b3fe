"""cert_renewer against a real nats-server and the world's central services."""

import asyncio
import logging
import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from libs.bus.connection import Bus
from libs.events import subjects
from libs.events.messages import Credential, CredentialObserved, CredentialRenewed
from libs.runtime.errors import Misconfigured
from libs.runtime.site import Site
from services.cert_renewer.service import serve
from tests.contract.alice.world import World
from tests.integration.central.conftest import running, until
from tests.nats_server import NatsServer


def token_path(site: Site) -> Path:
    return site.credentials.token_file


def of(value: object, kind: str) -> Credential:
    assert isinstance(value, CredentialObserved)
    return next(credential for credential in value.credentials if credential.kind == kind)


async def renewals(bus: Bus) -> list[CredentialRenewed]:
    """Every credential.renewed so far."""
    info = await bus.js.stream_info("CREDENTIALS")
    found = []
    for sequence in range(info.state.first_seq, info.state.last_seq + 1):
        message = await bus.js.get_msg("CREDENTIALS", sequence)
        found.append(msgspec.json.decode(message.data or b"", type=CredentialRenewed))
    return found


async def test_the_token_file_is_what_a_batch_job_sources(
    world: World, site: Site, nats_server: NatsServer, bus: Bus
) -> None:
    """A shell that sources the file has a certificate and its key; only the owner may read it."""
    path = token_path(site)
    async with running("cert_renewer", serve, site, nats_server):
        await until(path.exists)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [item.name for item in path.parent.iterdir()] == [path.name]
    script = f'. {path} && printf "%s\\n" "$JALIEN_TOKEN_CERT" && printf "%s\\n" "$JALIEN_TOKEN_KEY"'
    done = await asyncio.to_thread(subprocess.run, ["sh", "-c", script], capture_output=True, check=True, text=True)
    certificate_pem, key_pem = re.findall(r"-----BEGIN.*?-----END[^-]*-----", done.stdout, re.DOTALL)
    certificate = x509.load_pem_x509_certificate(certificate_pem.encode())
    key = load_pem_private_key(key_pem.encode(), None)
    assert certificate.public_key() == key.public_key()
    assert "BEGIN RSA PRIVATE KEY" in key_pem


async def test_credentials_are_reported_without_their_keys(
    world: World, site: Site, nats_server: NatsServer, bus: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    """Host certificate, token and API client with their days left and source; no secret on the bus or in logs."""
    caplog.set_level(logging.DEBUG)
    async with (
        bus.latest(subjects.CREDENTIAL_OBSERVED, "site") as seen,
        running("cert_renewer", serve, site, nats_server) as context,
    ):
        await until(lambda: seen.value and of(seen.value, "job_agent_token").days_left)
        host, token = of(seen.value, "host_certificate"), of(seen.value, "job_agent_token")
        assert host.days_left is not None
        assert token.days_left is not None
        assert host.days_left > 2 > token.days_left - 0.1
        assert token.subject.endswith("/CN=JobAgent")
        assert host.source.endswith("/host")
        assert (host.problem, token.problem, of(seen.value, "superfacility_client").problem) == ("", "", "")
        assert context.health.not_ready() == {}
        everything = msgspec.json.encode(seen.value).decode() + str(await renewals(bus)) + caplog.text
        client_key_file = site.machine["perlmutter"].client_key_file
        assert client_key_file is not None
        client_key_file.unlink()
        await until(lambda: "cannot be read" in of(seen.value, "superfacility_client").problem)
    assert "BEGIN" not in everything
    key_lines = token_path(site).read_text().partition("PRIVATE KEY")[2].splitlines()[1:-1]
    assert not any(line in everything for line in key_lines)


async def test_the_token_is_refreshed_and_kept_while_the_central_services_are_away(
    world: World, site: Site, nats_server: NatsServer, bus: Bus
) -> None:
    """A new token each interval; in an outage the old file stays and the reason is told; then it goes on."""
    path = token_path(site)
    async with (
        bus.latest(subjects.CREDENTIAL_OBSERVED, "site") as seen,
        running("cert_renewer", serve, site, nats_server),
    ):
        await until(path.exists)
        first = path.read_text()
        await until(lambda: path.read_text() != first)
        await world.stop()
        await until(lambda: seen.value and "not renewed" in of(seen.value, "job_agent_token").problem)
        kept = path.read_text()
        at = of(seen.value, "job_agent_token").checked_at
        await until(lambda: of(seen.value, "job_agent_token").checked_at > at)
        token = of(seen.value, "job_agent_token")
        assert path.read_text() == kept
        assert token.days_left is not None
        await world.start()
        await until(lambda: path.read_text() != kept)
        await until(lambda: not of(seen.value, "job_agent_token").problem)
    assert {renewed.kind for renewed in await renewals(bus)} == {"job_agent_token"}


async def test_a_new_host_certificate_takes_effect_and_an_unfit_one_does_not(
    world: World, site: Site, nats_server: NatsServer, bus: Bus
) -> None:
    """Half a renewal is reported and not used; the whole one is, with a token made at once."""
    quiet = msgspec.structs.replace(site, credentials=msgspec.structs.replace(site.credentials, token_refresh_s=3600.0))
    path, host = token_path(site), site.credentials.host_certificate_directory
    async with (
        bus.latest(subjects.CREDENTIAL_OBSERVED, "site") as seen,
        running("cert_renewer", serve, quiet, nats_server),
    ):
        await until(lambda: seen.value and path.exists())
        first = path.read_text()
        shutil.copy(world.ready["ordinary_key"], host / "hostkey.pem")
        await until(lambda: "does not belong" in of(seen.value, "host_certificate").problem)
        assert path.read_text() == first
        shutil.copy(world.ready["key"], host / "hostkey.pem")
        await until(lambda: not of(seen.value, "host_certificate").problem)
        (host / "hostcert.pem").write_text((host / "hostcert.pem").read_text() + "\n")
        await until(lambda: path.read_text() != first)
    assert [renewed.kind for renewed in await renewals(bus)] == [
        "job_agent_token",
        "host_certificate",
        "job_agent_token",
    ]


async def test_a_refusal_is_reported_and_nothing_is_written(
    world: World, site: Site, nats_server: NatsServer, bus: Bus
) -> None:
    """An account without the role gets no token: the reason is published, and the request is tried again later."""
    host = site.credentials.host_certificate_directory
    shutil.copy(world.ready["ordinary_cert"], host / "hostcert.pem")
    shutil.copy(world.ready["ordinary_key"], host / "hostkey.pem")
    central = msgspec.structs.replace(site.central_services, account=world.ready["ordinary_account"])
    async with (
        bus.latest(subjects.CREDENTIAL_OBSERVED, "site") as seen,
        running("cert_renewer", serve, msgspec.structs.replace(site, central_services=central), nats_server),
    ):
        await until(lambda: seen.value and "permissions" in of(seen.value, "job_agent_token").problem)
    assert not token_path(site).exists()


async def test_a_full_directory_keeps_the_old_token(
    world: World, site: Site, nats_server: NatsServer, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the new file cannot be made durable the old one stays and no temporary file is left."""
    path = token_path(site)
    async with (
        bus.latest(subjects.CREDENTIAL_OBSERVED, "site") as seen,
        running("cert_renewer", serve, site, nats_server),
    ):
        await until(path.exists)

        def full(descriptor: int) -> None:
            raise OSError(28, os.strerror(28))

        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", full)
            await until(lambda: seen.value and "No space left" in of(seen.value, "job_agent_token").problem)
            kept = path.read_text()
            assert [item.name for item in path.parent.iterdir()] == [path.name]
        await until(lambda: path.read_text() != kept)


async def test_unfit_files_at_the_start_are_misconfigured(world: World, site: Site, nats_server: NatsServer) -> None:
    """A host key of another certificate, or no directory for the token file, stops the start and says which."""
    host = site.credentials.host_certificate_directory
    nowhere = msgspec.structs.replace(
        site, credentials=msgspec.structs.replace(site.credentials, token_file=host / "nowhere" / "token")
    )
    with pytest.raises(Misconfigured, match=r"token file: directory .*nowhere does not exist"):
        async with running("cert_renewer", serve, nowhere, nats_server):
            pass
    elsewhere = host.parent / "elsewhere"
    elsewhere.mkdir()
    other = msgspec.structs.replace(
        site, credentials=msgspec.structs.replace(site.credentials, host_certificate_directory=elsewhere)
    )
    with pytest.raises(Misconfigured, match=r"host certificate: .*elsewhere/hostcert\.pem cannot be read"):
        async with running("cert_renewer", serve, other, nats_server):
            pass

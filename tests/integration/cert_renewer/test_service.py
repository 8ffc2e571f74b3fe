"""cert_renewer against a real nats-server, the world's central services, and its facility."""

import asyncio
import logging
import os
import re
import shutil
import stat
import subprocess
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from libs.bus.connection import Bus
from libs.events import subjects
from libs.events.messages import Credential, CredentialObserved, CredentialRenewed
from libs.runtime import bearer, versions
from libs.runtime.errors import Misconfigured, NacreError
from libs.runtime.file_work import FileWork
from libs.runtime.site import Site
from services.cert_renewer.keepers.keeper import ACCESS_TOKEN, BEARER, CLIENT, HOST, TOKEN
from services.cert_renewer.service import serve
from tests.contract.alice.world import World
from tests.contract.superfacility_session import Facility
from tests.integration.central.conftest import running, until
from tests.integration.cert_renewer.conftest import Place, put, renewed
from tests.integration.cert_renewer.install_kills import is_whole
from tests.nats_server import NatsServer
from tests.world.acme.authority import BAD, Authority

SERVICE = "cert_renewer"


def row(seen: Any, kind: str) -> Credential:
    """One credential of the latest observation; an empty one while there is none."""
    value = seen.value
    none = Credential(kind="none", source="", checked_at=datetime.now(UTC), problem="not told yet")
    if not isinstance(value, CredentialObserved):
        return none
    return next((credential for credential in value.credentials if credential.kind == kind), none)


async def renewals(bus: Bus) -> list[CredentialRenewed]:
    """Every credential.renewed so far."""
    info = await bus.js.stream_info("CREDENTIALS")
    found = []
    for sequence in range(info.state.first_seq, info.state.last_seq + 1):
        message = await bus.js.get_msg("CREDENTIALS", sequence)
        found.append(msgspec.json.decode(message.data or b"", type=CredentialRenewed))
    return found


async def test_the_first_pair_is_installed_and_the_token_file_is_what_a_batch_job_sources(
    place: Place, site: Site, nats_server: NatsServer, bus: Bus
) -> None:
    """What lies in the drop is checked and installed; a shell that sources the token file has a certificate and key."""
    async with running(SERVICE, serve, site, nats_server):
        await until(place.token.exists)
    assert stat.S_IMODE(place.token.stat().st_mode) == 0o600
    assert [item.name for item in place.token.parent.iterdir()] == [place.token.name]
    assert stat.S_IMODE((place.installed / "hostkey.pem").stat().st_mode) == 0o400
    assert (place.installed / "hostcert.pem").read_bytes() == (place.drop / "hostcert.pem").read_bytes()
    script = f'. {place.token} && printf "%s\\n" "$JALIEN_TOKEN_CERT" && printf "%s\\n" "$JALIEN_TOKEN_KEY"'
    done = await asyncio.to_thread(subprocess.run, ["sh", "-c", script], capture_output=True, check=True, text=True)
    certificate_pem, key_pem = re.findall(r"-----BEGIN.*?-----END[^-]*-----", done.stdout, re.DOTALL)
    certificate = x509.load_pem_x509_certificate(certificate_pem.encode())
    assert certificate.public_key() == load_pem_private_key(key_pem.encode(), None).public_key()
    assert "BEGIN RSA PRIVATE KEY" in key_pem
    assert [one.kind for one in await renewals(bus)] == [HOST, TOKEN]


async def test_credentials_are_told_with_their_clocks_and_without_their_keys(
    place: Place, site: Site, facility: Facility, nats_server: NatsServer, bus: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    """Each with subject, issuer, days left, source; the client's end comes from the facility; no key anywhere."""
    caplog.set_level(logging.DEBUG)
    facility.admin("POST", "/_clients", client_id=facility.ready["client_id"], life_s=5 * 86400)
    async with (
        bus.latest(subjects.CREDENTIAL_OBSERVED, "site") as seen,
        running(SERVICE, serve, site, nats_server) as context,
    ):
        await until(lambda: all(row(seen, kind).days_left for kind in (HOST, TOKEN, CLIENT, ACCESS_TOKEN)))
        await until(lambda: not context.health.not_ready())
        host, token, client, access = (row(seen, kind) for kind in (HOST, TOKEN, CLIENT, ACCESS_TOKEN))
        everything = msgspec.json.encode(seen.value).decode() + str(await renewals(bus)) + caplog.text
    assert [one.problem for one in (host, token, client, access)] == [""] * 4
    assert 360 < (host.days_left or 0) < 366
    assert 1.9 < (token.days_left or 0) < 2.1
    assert 4.9 < (client.days_left or 0) < 5.1
    assert 0 < (access.days_left or 0) * 86400 < 650
    assert (host.source, token.source) == (str(place.drop), str(place.token))
    assert (client.name, access.name) == ("perlmutter", "perlmutter")
    assert token.subject.endswith("/CN=JobAgent")
    assert host.issuer.endswith("/CN=JAliEnCA")
    assert [one.alarm for one in (host, token, access)] == [""] * 3
    keys = [place.installed / "hostkey.pem", place.client / "key", place.token]
    for secret in keys:
        lines = secret.read_text().partition("PRIVATE KEY")[2].splitlines()[1:-1]
        assert lines
        assert not any(line in everything for line in lines)
    assert "PRIVATE" not in everything


async def test_each_kind_of_bad_certificate_leaves_the_old_pair_and_its_reason_on_the_bus(
    place: Place, world: World, nats_server: NatsServer, bus: Bus
) -> None:
    """One after the other in the drop: what is installed does not change; in the end a good one is taken."""
    now = datetime.now(UTC)
    authority = Authority(now)
    anchors = place.folder / "anchors"
    anchors.mkdir()
    shutil.copy(world.ready["ca"], anchors / "world.pem")
    (anchors / "test.0").write_bytes(authority.root_pem)
    (anchors / "README.pem").write_text("not a certificate")
    (anchors / "crl_url").write_text("ignored")
    place.tables["credentials"]["host_certificate"] = {"anchors": str(anchors)}
    old = x509.load_pem_x509_certificate((place.drop / "hostcert.pem").read_bytes())
    key_pem = (place.drop / "hostkey.pem").read_bytes()
    public = old.public_key()
    assert isinstance(public, rsa.RSAPublicKey)
    async with (
        bus.latest(subjects.CREDENTIAL_OBSERVED, "site") as seen,
        running(SERVICE, serve, place.load(), nats_server),
    ):
        await until(lambda: row(seen, HOST).days_left and not row(seen, HOST).problem)
        kept = os.readlink(place.installed)
        told: set[str] = set()
        for kind in [*BAD]:
            if kind == "other_names":
                continue
            chain = authority.issue(public, old.subject, now, kind=kind)
            put(place.drop, chain, key_pem)
            await until(lambda: row(seen, HOST).problem not in {"", *told})
            told.add(row(seen, HOST).problem)
            assert f"the new one from {place.drop} is not taken: " in row(seen, HOST).problem
            assert os.readlink(place.installed) == kept
            assert row(seen, HOST).days_left
        assert len(told) == len(BAD) - 1
        put(place.drop, authority.issue(public, old.subject, now), key_pem)
        await until(lambda: not row(seen, HOST).problem)
        assert os.readlink(place.installed) != kept
        assert is_whole(place.installed.parent)
        assert row(seen, HOST).issuer.endswith("Test Grid CA 1")


async def test_half_a_renewal_is_not_used_and_the_whole_one_is(
    place: Place, world: World, site: Site, nats_server: NatsServer, bus: Bus
) -> None:
    """Key before certificate, a file cut short, a key that all may read: told, not taken; then a token is made."""
    place.tables["credentials"]["token_refresh_s"] = 3600.0
    chain, key = renewed(world)
    async with (
        bus.latest(subjects.CREDENTIAL_OBSERVED, "site") as seen,
        running(SERVICE, serve, place.load(), nats_server),
    ):
        await until(lambda: row(seen, TOKEN).days_left and place.token.exists())
        first, kept = place.token.read_text(), os.readlink(place.installed)
        put(place.drop, (place.drop / "hostcert.pem").read_bytes(), key)
        await until(lambda: "does not belong to the certificate" in row(seen, HOST).problem)
        put(place.drop, chain[: len(chain) // 2], key)
        await until(lambda: "ends within a certificate" in row(seen, HOST).problem)
        (place.drop / "hostkey.pem").chmod(0o644)
        await until(lambda: "chmod 0400 it" in row(seen, HOST).problem)
        (place.drop / "hostkey.pem").unlink()
        await until(lambda: "hostkey.pem cannot be read" in row(seen, HOST).problem)
        assert row(seen, HOST).todo.startswith("whoever renews the host certificate must put a renewed hostcert.pem")
        assert (place.token.read_text(), os.readlink(place.installed)) == (first, kept)
        put(place.drop, chain, key)
        await until(lambda: place.token.read_text() != first)
        await until(lambda: not row(seen, HOST).problem)
    assert (place.installed.parent / kept).is_dir()
    assert (place.installed / "hostcert.pem").read_bytes() == chain
    assert [one.kind for one in await renewals(bus)] == [HOST, TOKEN, HOST, TOKEN]


async def test_the_token_is_refreshed_and_kept_while_the_central_services_are_away(
    place: Place, world: World, site: Site, nats_server: NatsServer, bus: Bus
) -> None:
    """A new token each interval; in an outage the old file stays and the reason is told; then it goes on."""
    async with (
        bus.latest(subjects.CREDENTIAL_OBSERVED, "site") as seen,
        running(SERVICE, serve, site, nats_server),
    ):
        await until(place.token.exists)
        first = place.token.read_text()
        await until(lambda: place.token.read_text() != first)
        await world.stop()
        await until(lambda: "not renewed" in row(seen, TOKEN).problem)
        kept, at = place.token.read_text(), row(seen, TOKEN).checked_at
        await until(lambda: row(seen, TOKEN).checked_at > at)
        assert place.token.read_text() == kept
        assert row(seen, TOKEN).days_left is not None
        assert row(seen, HOST).problem == ""
        await world.start()
        await until(lambda: place.token.read_text() != kept)
        await until(lambda: not row(seen, TOKEN).problem)


async def test_a_refusal_is_told_and_nothing_is_written(
    place: Place, world: World, nats_server: NatsServer, bus: Bus
) -> None:
    """An account without the role gets no token: the reason is published, and the request is tried again later."""
    shutil.copy(world.ready["ordinary_cert"], place.drop / "hostcert.pem")
    shutil.copy(world.ready["ordinary_key"], place.drop / "hostkey.pem")
    place.tables["central_services"]["account"] = world.ready["ordinary_account"]
    async with (
        bus.latest(subjects.CREDENTIAL_OBSERVED, "site") as seen,
        running(SERVICE, serve, place.load(), nats_server),
    ):
        await until(lambda: "permissions" in row(seen, TOKEN).problem)
    assert not place.token.exists()


async def test_a_disk_that_is_full_or_read_only_keeps_what_there_is(
    place: Place, world: World, site: Site, nats_server: NatsServer, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither token nor host certificate are replaced, both reasons are told, nothing is left; then both are."""
    async with (
        bus.latest(subjects.CREDENTIAL_OBSERVED, "site") as seen,
        running(SERVICE, serve, site, nats_server),
    ):
        await until(lambda: place.token.exists() and not row(seen, HOST).problem)
        kept = os.readlink(place.installed)

        def full(descriptor: int) -> None:
            raise OSError(28, os.strerror(28))

        def read_only(*_: object) -> None:
            raise OSError(30, os.strerror(30))

        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", full)
            patched.setattr(os, "mkdir", read_only)
            put(place.drop, *renewed(world))
            await until(lambda: "No space left" in row(seen, TOKEN).problem)
            await until(lambda: "Read-only file system; what was installed stays" in row(seen, HOST).problem)
            token = place.token.read_text()
            assert [item.name for item in place.token.parent.iterdir()] == [place.token.name]
            assert os.readlink(place.installed) == kept
        await until(lambda: os.readlink(place.installed) != kept and place.token.read_text() != token)
        assert is_whole(place.installed.parent)


async def test_a_file_system_that_hangs_is_told_and_delays_nothing_else(
    place: Place, site: Site, nats_server: NatsServer, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading the drop and the token file hangs, as on CFS: the service stays live, other credentials are looked at."""
    monkeypatch.setattr(FileWork.__init__, "__defaults__", (0.3,))
    chain, key = ((place.drop / name).read_bytes() for name in ("hostcert.pem", "hostkey.pem"))
    async with (
        bus.latest(subjects.CREDENTIAL_OBSERVED, "site") as seen,
        running(SERVICE, serve, site, nats_server) as context,
    ):
        await until(lambda: place.token.exists() and not row(seen, HOST).problem)
        before = place.token.read_bytes()
        for path in (place.drop / "hostcert.pem", place.token):
            path.unlink()
            os.mkfifo(path)
        await until(lambda: "file system hang" in row(seen, HOST).problem)
        await until(lambda: "file system hang" in row(seen, TOKEN).problem)
        checked = row(seen, CLIENT).checked_at
        await until(lambda: row(seen, CLIENT).checked_at > checked)
        assert context.health.hanging() == {}
        assert row(seen, HOST).days_left
        for path, content in ((place.drop / "hostcert.pem", chain), (place.token, before)):
            with path.open("wb") as back:
                back.write(content)
            path.unlink()
        put(place.drop, chain, key)
        await until(lambda: not row(seen, HOST).problem and not row(seen, TOKEN).problem)
        assert place.token.is_file()


async def test_another_api_client_is_tried_and_told(
    place: Place, site: Site, facility: Facility, nats_server: NatsServer, bus: Bus
) -> None:
    """A bad one is told with what to do, a careless one, too; a good one is told as renewed, with its end."""
    new = facility.admin("POST", "/_clients", name="next", life_s=3 * 86400)
    key, id_file = place.client / "key", place.client / "id"
    async with (
        bus.latest(subjects.CREDENTIAL_OBSERVED, "site") as seen,
        running(SERVICE, serve, site, nats_server),
    ):
        await until(lambda: row(seen, CLIENT).days_left and not row(seen, CLIENT).problem)
        id_file.write_text(new["client_id"])
        await until(lambda: "it does not serve: the token endpoint refused us" in row(seen, CLIENT).problem)
        assert "not in its IP ranges (on Spin the client needs the preset Spin)" in row(seen, CLIENT).problem
        assert "nacre credentials install-client perlmutter" in row(seen, CLIENT).todo
        key.unlink()
        await until(lambda: "cannot be read" in row(seen, CLIENT).problem)
        shutil.copy(new["key_path"], key)
        key.chmod(0o644)
        await until(lambda: "chmod 0400 it" in row(seen, CLIENT).problem)
        key.chmod(0o440)
        await until(lambda: not row(seen, CLIENT).problem)
        assert row(seen, CLIENT).subject == f"next {new['client_id']}"
        assert 2.9 < (row(seen, CLIENT).days_left or 0) <= 3
        facility.admin("POST", "/_clients", client_id=new["client_id"], addresses=["192.0.2.0/24"])
        key.touch()
        await until(lambda: "not in its IP ranges" in row(seen, CLIENT).problem)
    assert [(one.kind, one.name) for one in await renewals(bus) if one.kind == CLIENT] == [(CLIENT, "perlmutter")]


async def test_the_edge_relays_bearer_is_kept_fresh_beside_the_token(
    place: Place, nats_server: NatsServer, bus: Bus
) -> None:
    """One for each machine, good for its time, private; another key signs a new one; a key for everyone is refused."""
    key = place.folder / "bearer_key"
    key.touch(0o600)
    key.write_bytes(b"0123456789abcdef0123456789abcdef")
    place.tables["monitoring"]["edge"] = {
        "public_url": "https://relay.example.org/",
        "bearer_key_file": str(key),
        "bearer_file": "/as/seen/there/{machine}.bearer",
        "script": "/edge.py",
    }
    written = place.token.with_name("perlmutter.bearer")
    async with (
        bus.latest(subjects.CREDENTIAL_OBSERVED, "site") as seen,
        running(SERVICE, serve, place.load(), nats_server),
    ):
        await until(written.exists)
        first = written.read_text()
        assert bearer.verified(key.read_bytes(), first, datetime.now(UTC)) == "perlmutter"
        assert stat.S_IMODE(written.stat().st_mode) == 0o600
        await until(lambda: 0.9 < (row(seen, BEARER).days_left or 0) <= 1)
        await until(lambda: written.read_text() != first)
        key.write_bytes(b"another key of the edge relays ...")
        await until(lambda: _verifies(key.read_bytes(), written.read_text()))
        key.chmod(0o644)
        await until(lambda: "chmod 0400 it" in row(seen, BEARER).problem)
        assert "another key" not in row(seen, BEARER).problem
        kept = written.read_text()
        key.chmod(0o600)
        await until(lambda: not row(seen, BEARER).problem and written.read_text() != kept)


def _verifies(key: bytes, text: str) -> bool:
    try:
        return bool(bearer.verified(key, text, datetime.now(UTC)))
    except NacreError:
        return False


async def test_what_cannot_be_right_stops_the_start(place: Place, nats_server: NatsServer) -> None:
    """Paths where nothing can be installed, and directories that are not there, each with what to do."""
    slips = (
        ("central_services", "certificate", "/a/hostcert.pem", r"set it to /a/current/hostcert\.pem"),
        ("central_services", "key", "/b/current/hostkey.pem", "same directory as central_services.certificate"),
        ("credentials", "token_file", "/nowhere/token", "token_file: directory /nowhere does not exist"),
        ("credentials", "host_certificate_directory", "/nowhere", "directory /nowhere does not exist; mount it"),
    )
    for table, setting, wrong, words in slips:
        right = place.tables[table][setting]
        place.tables[table][setting] = wrong
        with pytest.raises(Misconfigured, match=words):
            async with running(SERVICE, serve, place.load(), nats_server):
                pass
        place.tables[table][setting] = right
    assert not versions.in_effect(place.installed.parent)

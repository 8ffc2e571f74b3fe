"""Orders from a real ACME server: http-01, external account binding, 47 days; and every way in which one can fail."""

import os
import re
import shutil
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from libs.bus.connection import Bus
from libs.events import subjects
from libs.events.messages import Credential
from libs.runtime import versions
from libs.runtime.site.credentials import Acme, HostCertificate
from services.cert_renewer.keepers.host import HostKeeper
from services.cert_renewer.keepers.keeper import HOST, Looked
from services.cert_renewer.service import serve
from services.cert_renewer.sources import ordered
from services.cert_renewer.sources.ordered import Ordered
from services.cert_renewer.sources.requested import Pending
from tests.integration.central.conftest import running, until
from tests.integration.cert_renewer.conftest import Place
from tests.integration.cert_renewer.install_kills import is_whole
from tests.nats_server import NatsServer
from tests.world.acme.authority import Authority
from tests.world.processes import start

pytestmark = [
    pytest.mark.acme,
    pytest.mark.skipif(
        shutil.which("pebble") is None,
        reason="no ACME server here (pebble); `make install` as root on Debian installs one",
    ),
]
NAMES = ("hostcert.pem", "hostkey.pem")


@dataclass(frozen=True)
class Server:
    """A started tests.world.acme."""

    ready: dict[str, Any]
    http01_port: int

    def admin(self, method: str, where: str, /, **body: Any) -> Any:
        """Tell or ask its front."""
        context = ssl.create_default_context(cafile=self.ready["ca"])
        answer = httpx.request(method, self.ready["admin_url"] + where, json=body or None, verify=context, timeout=30)
        assert answer.is_success, answer.text
        return answer.json()

    def settings(self, **changes: Any) -> HostCertificate:
        """What the site file says of it."""
        acme = {
            "directory_url": self.ready["directory_url"],
            "contact": "ops@example.org",
            "eab_key_id": self.ready["eab_key_id"],
            "eab_key_file": Path(self.ready["eab_key_file"]),
            "http01_listen": f"0.0.0.0:{self.http01_port}",
            "ca": Path(self.ready["ca"]),
            "patience_s": 20.0,
        }
        return HostCertificate(
            source="acme",
            names=["localhost"],
            anchors=Path(self.ready["anchors"]),
            key="p-256",
            acme=Acme(**(acme | changes)),
        )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    port = free_port()
    arguments = ("--state", str(tmp_path_factory.mktemp("acme")), "--http01-port", str(port))
    with start("tests.world.acme", *arguments) as (_, ready):
        yield Server(ready, port)


@pytest.fixture
def server(started: Server) -> Server:
    """The server without faults, issuing its own."""
    started.admin("DELETE", "/_faults")
    started.admin("POST", "/_issue", kind="pebble")
    return started


def keeper(folder: Path, settings: HostCertificate) -> HostKeeper:
    """A keeper as the service makes it."""
    assert settings.acme is not None
    assert settings.anchors is not None
    source = Ordered(settings.acme, Pending(folder, settings), folder, "nacre/test")
    return HostKeeper(settings, settings.anchors, folder, NAMES, source)


def row(looked: Looked) -> Credential:
    (found,) = looked.credentials
    return found


async def test_an_order_from_account_to_installed_pair_and_its_renewal(server: Server, tmp_path: Path) -> None:
    """The account is bound and made once; 47 days; renewed with a new key when a third is left, and not before."""
    now = datetime.now(UTC)
    keeping = keeper(tmp_path, server.settings())
    # pebble's certificates begin with the second of issue, which may be after the look began.
    looked = await keeping.look(now)
    problem = row(looked).problem
    assert not problem or "is taken when it begins: certificate: not valid before" in problem
    asked = len(server.admin("GET", "/_log"))
    first = row(await keeping.look(looked.again_at if problem and looked.again_at else now + timedelta(seconds=2)))
    assert len(server.admin("GET", "/_log")) == asked
    assert first.problem == ""
    assert 46.9 < (first.days_left or 0) < 47.1
    assert first.issuer.startswith("/CN=Pebble Intermediate CA")
    assert is_whole(tmp_path)
    chain = x509.load_pem_x509_certificates((tmp_path / versions.CURRENT / NAMES[0]).read_bytes())
    assert len(chain) == 2
    assert not (tmp_path / "pending").exists()
    account = tmp_path / "acme" / "account_key.pem"
    assert account.stat().st_mode & 0o777 == 0o400
    key = account.read_bytes()
    asked = len(server.admin("GET", "/_log"))
    assert row(await keeping.look(now + timedelta(days=31))).renews_at == first.renews_at
    assert len(server.admin("GET", "/_log")) == asked
    looked = await keeping.look(now + timedelta(days=32))
    assert [one.kind for one in looked.renewed] == [HOST]
    assert is_whole(tmp_path)
    renewed = x509.load_pem_x509_certificate((tmp_path / versions.CURRENT / NAMES[0]).read_bytes())
    assert renewed.public_key() != chain[0].public_key()
    assert account.read_bytes() == key


def nearly_ended(server: Server, folder: Path, now: datetime, **changes: Any) -> tuple[HostKeeper, str]:
    """A keeper of an installed pair with five days left, and the name of its version."""
    authority = Authority(now)
    anchors = folder / "anchors.pem"
    anchors.write_bytes(Path(server.ready["anchors"]).read_bytes() + authority.root_pem)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    chain = authority.issue(key.public_key(), subject, now - timedelta(days=42), names=("localhost",))
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    kept = versions.install(folder, {NAMES[0]: versions.File(chain), NAMES[1]: versions.File(pem)}, now).name
    settings = msgspec.structs.replace(server.settings(**changes), anchors=anchors, dn="/CN=localhost")
    return keeper(folder, settings), kept


async def test_a_bad_one_from_the_authority_is_not_taken_and_not_ordered_again_at_once(
    server: Server, tmp_path: Path
) -> None:
    """Without client authentication, as public authorities issue them soon: the old pair stays, six hours pass."""
    now = datetime.now(UTC)
    keeping, kept = nearly_ended(server, tmp_path, now)
    server.admin("POST", "/_issue", kind="server_only")
    looked = await keeping.look(now)
    words = f"the new one from {server.ready['directory_url']} is not taken: usage: not made for TLS clients"
    assert row(looked).problem.startswith(words)
    assert os.readlink(tmp_path / versions.CURRENT) == kept
    assert looked.again_at == now + timedelta(hours=6)
    assert row(looked).alarm == "warning"
    asked = len(server.admin("GET", "/_log"))
    assert os.readlink(tmp_path / versions.CURRENT) == kept
    assert row(await keeping.look(now + timedelta(hours=5))).renews_at == looked.again_at
    assert len(server.admin("GET", "/_log")) == asked
    server.admin("POST", "/_issue", kind="good")
    assert row(await keeping.look(now + timedelta(hours=7))).problem == ""
    assert os.readlink(tmp_path / versions.CURRENT) != kept


# A body without end: killed by its bound of memory, or, on a busy machine, by that of time.
FAULTS = {
    "nonsense": ("/dir", "nonsense", "it answered nonsense"),
    "empty": ("/dir", "empty_object", "it answered nonsense"),
    "error": ("/order-plz", "not_json", "HTTP 500"),
    "endless": ("/dir", "endless", ": "),
    "silence": ("/nonce-plz", "silence", ": not done in 3 s"),
}


@pytest.mark.parametrize("name", FAULTS)
async def test_whatever_the_authority_answers_becomes_words(
    server: Server, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nonsense, errors, silence, a body without end: the reason is told, a later look tries again, the pair stays."""
    path, kind, words = FAULTS[name]
    monkeypatch.setattr(ordered, "KILL_AFTER_S", 0.0)
    now = datetime.now(UTC)
    keeping, kept = nearly_ended(server, tmp_path, now, patience_s=3.0 if kind in ("silence", "endless") else 20.0)
    server.admin("POST", "/_faults", path=path, kind=kind)
    looked = await keeping.look(now)
    assert looked.again_at == now + timedelta(seconds=60)
    assert os.readlink(tmp_path / versions.CURRENT) == kept
    assert words in row(looked).problem
    if kind == "endless":
        assert re.search(r"its process ended with|not done in 3 s|the connection broke", row(looked).problem)


async def test_a_rate_limit_is_obeyed(server: Server, tmp_path: Path) -> None:
    """Retry-After counts, and it is asked no sooner."""
    now = datetime.now(UTC)
    server.admin("POST", "/_faults", path="/order-plz", kind="rate_limited", retry_after="7200")
    keeping = keeper(tmp_path, server.settings())
    looked = await keeping.look(now)
    assert "rateLimited: too many certificates for this name" in row(looked).problem
    assert looked.again_at == now + timedelta(hours=2)
    assert row(await keeping.look(now + timedelta(hours=1))).problem
    assert not versions.in_effect(tmp_path)
    assert row(await keeping.look(now + timedelta(hours=2))).problem == ""


async def test_our_own_slips_are_named(server: Server, tmp_path: Path) -> None:
    """A wrong binding, a wrong anchor, a port that leads nowhere, nobody there, a port in use, a careless key."""
    now = datetime.now(UTC)
    wrong_key = tmp_path / "eab"
    wrong_key.touch(0o600)
    wrong_key.write_text("c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0")
    foreign = tmp_path / "foreign.pem"
    foreign.write_bytes(Authority(now, "Somebody's").root_pem)
    careless = tmp_path / "careless"
    careless.write_text("c2VjcmV0")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        in_use = taken.getsockname()[1]
        slips = {
            "external account binding": server.settings(eab_key_file=wrong_key),
            "chmod 0400 it": server.settings(eab_key_file=careless),
            "it cannot be trusted (SSLError); is `ca` right?": server.settings(ca=foreign),
            "http-01 failed: localhost": server.settings(http01_listen=f"127.0.0.1:{free_port()}"),
            "no answer (ConnectionError)": server.settings(directory_url=f"https://localhost:{free_port()}/dir"),
            "http-01 cannot listen at": server.settings(http01_listen=f"127.0.0.1:{in_use}"),
        }
        for number, (words, settings) in enumerate(slips.items()):
            looked = await keeper(tmp_path / str(number), settings).look(now)
            assert words in row(looked).problem
            assert "c2VjcmV0" not in row(looked).problem


async def test_the_service_orders_its_first_certificate(
    server: Server, place: Place, nats_server: NatsServer, bus: Bus
) -> None:
    """With nothing installed and no drop: ordered, checked, installed and told; the token waits for an account."""
    wanted = msgspec.to_builtins(server.settings(), enc_hook=str)
    place.tables["credentials"]["host_certificate"] = msgspec.json.decode(msgspec.json.encode(wanted))
    del place.tables["credentials"]["host_certificate_directory"]
    async with (
        bus.latest(subjects.CREDENTIAL_OBSERVED, "site") as seen,
        running("cert_renewer", serve, place.load(), nats_server),
    ):

        def told() -> Credential | None:
            rows = seen.value.credentials if seen.value else []
            return next((one for one in rows if one.kind == HOST and one.days_left), None)

        await until(told)
    assert is_whole(place.installed.parent)

"""What is told of a credential, and the sources whose ways the other tests do not go."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from libs.alice.identity import alice_dn
from libs.events.messages import Credential
from libs.runtime.errors import Malformed, Misconfigured
from libs.runtime.site.credentials import HostCertificate
from services.cert_renewer.keepers.host import HostKeeper, read_anchors
from services.cert_renewer.keepers.keeper import told
from services.cert_renewer.sources import watched
from services.cert_renewer.sources.manual import Manual
from services.cert_renewer.sources.requested import Pending, subject_of
from services.cert_renewer.sources.watched import Watched
from tests.world.acme.authority import Authority, name_of

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
TODO = "somebody must do something"


def credential(before: timedelta | None, left: timedelta | None, problem: str = "") -> Credential:
    return Credential(
        kind="x",
        source="y",
        checked_at=NOW,
        not_before=None if before is None else NOW - before,
        not_after=None if left is None else NOW + left,
        problem=problem,
    )


def test_what_is_good_is_told_without_a_word() -> None:
    """Days left, and nothing to do; an unknown end is no number."""
    good = told(credential(DAY, 90 * DAY), TODO)
    assert (good.days_left, good.alarm, good.problem, good.todo) == (90.0, "", "", "")
    unknown = told(credential(None, None), TODO)
    assert (unknown.days_left, unknown.alarm, unknown.todo) == (None, "", "")


def test_who_must_do_what_by_when() -> None:
    """Said with the first alarm or problem; before the end, at once after it, without an instant when none is known."""
    soon = told(credential(90 * DAY, 6 * DAY), TODO)
    assert (soon.alarm, soon.todo) == ("warning", f"{TODO} before 2026-12-01 12:00 UTC")
    over = told(credential(90 * DAY, -DAY), TODO)
    assert (over.alarm, over.todo) == ("critical", f"{TODO} at once")
    assert over.problem.startswith("expired at 2026-11-24 12:00 UTC")
    assert told(credential(None, None, "broken"), TODO).todo == TODO
    assert told(credential(DAY, 90 * DAY, "broken"), TODO).problem == "broken"
    assert "not valid before" in told(credential(-DAY, 90 * DAY)).problem
    assert told(credential(None, 90 * DAY)).problem == ""


async def test_a_host_token_is_taken_from_its_own_names(tmp_path: Path) -> None:
    """tokencert.pem and tokenkey.pem as JAliEn's administrators hand them out, PKCS #1 and all."""
    authority = Authority(NOW, "JAliEn CA")
    drop, volume, anchors = tmp_path / "drop", tmp_path / "volume", tmp_path / "anchors.pem"
    drop.mkdir()
    anchors.write_bytes(authority.root_pem)
    key = rsa.generate_private_key(65537, 2048)
    (drop / "tokencert.pem").write_bytes(
        authority.issue(key.public_key(), name_of("ce.example.org", "AliEn2"), NOW, life=365 * DAY)
    )
    os.close(os.open(drop / "tokenkey.pem", os.O_CREAT, 0o600))
    (drop / "tokenkey.pem").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    )
    source = Watched(drop, watched.HOST_TOKEN, who="an ALICE administrator")
    settings = HostCertificate(source="host_token", dn="/O=AliEn2/CN=ce.example.org")
    keeper = HostKeeper(settings, anchors, volume, ("hostcert.pem", "hostkey.pem"), source)
    (row,) = (await keeper.look(NOW)).credentials
    assert (row.problem, row.subject, row.renews_at) == ("", "/O=AliEn2/CN=ce.example.org", None)
    (late,) = (await keeper.look(NOW + 360 * DAY)).credentials
    assert late.todo.startswith("an ALICE administrator must put a renewed tokencert.pem and tokenkey.pem into")


async def test_what_is_installed_is_looked_after_too(tmp_path: Path) -> None:
    """Its authorities end, another subject is wanted, its files are spoilt: told; what is offered mends it."""
    authority = Authority(NOW)
    drop, volume, anchors = tmp_path / "drop", tmp_path / "volume", tmp_path / "anchors.pem"
    drop.mkdir()
    anchors.write_bytes(authority.root_pem)
    key = rsa.generate_private_key(65537, 2048)
    (drop / "hostcert.pem").write_bytes(authority.issue(key.public_key(), name_of("a"), NOW, life=365 * DAY))
    os.close(os.open(drop / "hostkey.pem", os.O_CREAT, 0o600))
    (drop / "hostkey.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    names = ("hostcert.pem", "hostkey.pem")

    def keeper(dn: str = "") -> HostKeeper:
        source = Watched(drop, names, who="somebody")
        return HostKeeper(HostCertificate(dn=dn), anchors, volume, names, source)

    (row,) = (await keeper().look(NOW)).credentials
    assert row.problem == ""
    (row,) = (await keeper("/CN=other").look(NOW)).credentials
    assert "the installed one: subject: /O=Nacre Test Site/CN=a is not the expected /CN=other" in row.problem
    keeping = keeper()
    assert not (await keeping.look(NOW)).credentials[0].problem
    anchors.write_bytes(Authority(NOW, "Another").root_pem)
    assert not (await keeping.look(NOW + DAY / 48)).credentials[0].problem
    (row,) = (await keeping.look(NOW + DAY)).credentials
    assert "the installed one: chain: the issuer" in row.problem
    anchors.write_text("nothing")
    assert "trust anchors" in (await keeper().look(NOW)).credentials[0].problem
    anchors.write_bytes(authority.root_pem)
    (volume / "current" / "hostkey.pem").unlink()
    mended = await keeper().look(NOW + DAY)
    assert (mended.credentials[0].problem, len(mended.renewed)) == ("", 1)


def test_a_request_is_kept_until_it_is_fulfilled(tmp_path: Path) -> None:
    """Key and request are made once, private, with the subject and names of the site file; a spoilt key is said."""
    settings = HostCertificate(
        source="manual", dn="/DC=org/DC=example/CN=host/ce.example.org", names=["ce.example.org"]
    )
    pending = Pending(tmp_path, settings)
    assert not pending.exists()
    made = pending.request()
    assert pending.exists()
    assert pending.request().csr_pem == made.csr_pem
    assert (tmp_path / "pending" / "hostkey.pem").stat().st_mode & 0o777 == 0o400
    assert "PRIVATE" not in repr(made)
    (tmp_path / "pending" / "hostkey.pem").chmod(0o600)
    (tmp_path / "pending" / "hostkey.pem").write_text("nonsense")
    with pytest.raises(Misconfigured, match="is none of ours"):
        pending.request()
    pending.clear()
    assert not pending.exists()
    assert alice_dn(subject_of("/C=ch/O=AliEn2/CN=host/a")) == "/C=ch/O=AliEn2/CN=host/a"
    with pytest.raises(Misconfigured, match="cannot be read as a subject"):
        subject_of("/XX=1")


async def test_a_certificate_for_another_request_is_not_taken(tmp_path: Path) -> None:
    """Somebody put an old or a foreign one beside the request."""
    drop = tmp_path / "drop"
    drop.mkdir()
    source = Manual(drop, Pending(tmp_path, HostCertificate(source="manual", names=["a.example.org"], key="p-256")))
    assert await source.offered(NOW, due=False, installed=None) is None
    assert await source.offered(NOW, due=True, installed=None) is None
    authority = Authority(NOW)
    key = rsa.generate_private_key(65537, 2048)
    (drop / "hostcert.pem").write_bytes(authority.issue(key.public_key(), name_of("a"), NOW))
    with pytest.raises(Malformed, match=r"was not made for .*host\.csr"):
        await source.offered(NOW, due=True, installed=None)
    (drop / "hostcert.pem").write_bytes(authority.signed((drop / "host.csr").read_bytes(), NOW))
    assert await source.offered(NOW, due=False, installed=None) is not None


def test_anchors_are_read_from_a_file_or_a_directory(tmp_path: Path) -> None:
    """PEM and DER, each once; what is no certificate is passed over; none at all is said."""
    one, two = Authority(NOW, "One"), Authority(NOW, "Two")
    (tmp_path / "a.pem").write_bytes(one.root_pem + two.root_pem)
    (tmp_path / "b.der").write_bytes(one.root.certificate.public_bytes(Encoding.DER))
    (tmp_path / "c.crt").write_text("nonsense")
    (tmp_path / "d.signing_policy").write_text("x")
    assert len(read_anchors(tmp_path)) == 2
    assert len(read_anchors(tmp_path / "a.pem")) == 2
    with pytest.raises(Misconfigured, match="holds no certificate"):
        read_anchors(tmp_path / "c.crt")

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from libs.alice.answers import JobAgentToken
from libs.runtime.errors import Malformed, Overloaded
from libs.runtime.site import Machine
from services.cert_renewer import sources, token_file

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
KEY = rsa.generate_private_key(65537, 2048)
OTHER = rsa.generate_private_key(65537, 2048)


def certificate(days: float = 2, usage: list[ObjectIdentifier] | None = None) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "JobAgent")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(KEY.public_key())
        .serial_number(1)
        .not_valid_before(NOW - timedelta(days=3))
        .not_valid_after(NOW + timedelta(days=days))
    )
    if usage:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usage), critical=False)
    return builder.sign(KEY, hashes.SHA256())


def key_bytes(key: rsa.RSAPrivateKey, form: serialization.Encoding = serialization.Encoding.DER) -> bytes:
    return key.private_bytes(form, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def token(days: float = 2, key: rsa.RSAPrivateKey = KEY) -> JobAgentToken:
    return JobAgentToken(certificate(days).public_bytes(serialization.Encoding.DER), key_bytes(key))


def test_a_token_is_written_and_read_back(tmp_path: Path) -> None:
    """The file holds both exports, mode 0600 whatever the umask, and replaces an older one."""
    path = tmp_path / "token"
    path.write_text("old")
    old_mask = os.umask(0)
    try:
        token_file.write(path, token_file.checked(token(), NOW))
    finally:
        os.umask(old_mask)
    assert path.stat().st_mode & 0o777 == 0o600
    assert token_file.read(path) == certificate()
    lines = path.read_text().splitlines()
    assert lines[0] == 'export JALIEN_TOKEN_CERT="-----BEGIN CERTIFICATE-----'
    assert 'export JALIEN_TOKEN_KEY="-----BEGIN RSA PRIVATE KEY-----' in lines
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (token(key=OTHER), "does not fit"),
        (token(days=-1), "ended"),
        (JobAgentToken(b"nonsense", key_bytes(KEY)), "cannot be read"),
        (JobAgentToken(token().certificate_der, b"nonsense"), "cannot be read"),
    ],
)
def test_a_bad_token_never_reaches_the_file(bad: JobAgentToken, words: str) -> None:
    """Key and certificate must be a readable pair that still lives; the error shows neither."""
    with pytest.raises(Malformed, match=words) as caught:
        token_file.checked(bad, NOW)
    assert caught.value.__cause__ is None
    assert "nonsense" not in str(caught.value)


@pytest.mark.parametrize("step", ["open", "fsync", "replace"])
def test_a_fault_at_any_step_leaves_the_old_file(tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No directory, no space, no rename: the old token stays whole and nothing is left beside it."""
    path = tmp_path / "token"
    path.write_text("old")
    made = token_file.checked(token(), NOW)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path if step == "replace" else os, step, fail)
    with pytest.raises(Overloaded, match="No space left on device; the old one stays"):
        token_file.write(path, made)
    monkeypatch.undo()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_no_token_file_reads_as_none(tmp_path: Path) -> None:
    """Absent, empty or foreign files hold no token."""
    assert token_file.read(tmp_path / "none") is None
    for text in ("", "hello", 'export JALIEN_TOKEN_CERT="nonsense"\n'):
        (tmp_path / "token").write_text(text)
        assert token_file.read(tmp_path / "token") is None


def test_leftovers_of_killed_processes_are_swept(tmp_path: Path) -> None:
    """Only half-written files that are old enough go; what another process writes just now stays."""
    path, old, new = tmp_path / "token", tmp_path / ".token.aa.new", tmp_path / ".token.bb.new"
    for item in (path, old, new):
        item.write_text("x")
        os.utime(item, (NOW.timestamp(), NOW.timestamp()))
    os.utime(old, (NOW.timestamp() - 4000, NOW.timestamp() - 4000))
    assert token_file.sweep(path, NOW) == 1
    assert sorted(item.name for item in tmp_path.iterdir()) == [".token.bb.new", "token"]


def host(folder: Path, made: x509.Certificate, key: bytes) -> sources.HostCertificate:
    (folder / "hostcert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "hostkey.pem").write_bytes(key)
    return sources.host_certificate(folder)


def test_a_host_certificate_is_checked_as_a_pair_and_for_its_use(tmp_path: Path) -> None:
    """A foreign key, a key that is none, a server-only certificate: each has its own words; a good pair has none."""
    pem = key_bytes(KEY, serialization.Encoding.PEM)
    client, server = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH
    good = host(tmp_path, certificate(), pem)
    assert good.problem == ""
    assert host(tmp_path, certificate(usage=[client, server]), pem).problem == ""
    assert host(tmp_path, certificate(usage=[client, server]), pem).fingerprint != good.fingerprint
    assert "no clientAuth" in host(tmp_path, certificate(usage=[server]), pem).problem
    assert "does not belong" in host(tmp_path, certificate(), key_bytes(OTHER, serialization.Encoding.PEM)).problem
    assert "no unencrypted PEM" in host(tmp_path, certificate(), b"nonsense").problem
    assert host(tmp_path, certificate(), pem).fingerprint


def test_a_missing_half_is_named(tmp_path: Path) -> None:
    """Each file of the pair is missed by its own name, and what is there is still described."""
    assert "hostcert.pem cannot be read" in sources.host_certificate(tmp_path).problem
    (tmp_path / "hostcert.pem").write_bytes(certificate().public_bytes(serialization.Encoding.PEM))
    found = sources.host_certificate(tmp_path)
    assert "hostkey.pem cannot be read" in found.problem
    assert found.certificate == certificate()
    assert found.fingerprint == ""


def test_the_api_clients_files_must_be_there(tmp_path: Path) -> None:
    """The missing one is named."""
    machine = Machine(client_id_file=tmp_path / "id", client_key_file=tmp_path / "key", user="x")
    assert "client id" in sources.client_problem(machine)
    (tmp_path / "id").write_text("id")
    assert "client key" in sources.client_problem(machine)
    (tmp_path / "key").write_text("key")
    assert sources.client_problem(machine) == ""

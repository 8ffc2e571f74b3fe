"""The bus's keys: a private CA and the server's certificate, an nkey for each user, and the server's accounts.

    DIRECTORY/server/  accounts.conf, server.pem, server-key.pem, ca.pem   for nats-server alone
    DIRECTORY/users/   <user>.nk (a seed: secret), ca.pem                  each user's own file, to that user alone
    DIRECTORY/ca/      ca-key.pem                                          keep it off the servers

Nothing that exists is made anew, so that a second run changes nothing; what is missing or nearly over is made.
"""

import os
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import nkeys  # type: ignore[import-untyped]
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from libs.bus import permissions
from libs.runtime.errors import Misconfigured

SYSTEM = "system"
CA_LIFE = timedelta(days=3650)
SERVER_LIFE = timedelta(days=825)
RENEWED_BEFORE = timedelta(days=60)
BACK_DATED = timedelta(hours=1)
SECRET, PUBLIC = 0o600, 0o644


def make(directory: Path, hosts: Sequence[str], now: datetime) -> list[str]:
    """Make what is missing below `directory`; gives the files written. Misconfigured when it cannot be written."""
    written: list[str] = []
    try:
        for name in ("server", "users", "ca"):
            (directory / name).mkdir(mode=0o750, parents=True, exist_ok=True)
        ca_key, ca = _authority(directory, now, written)
        _server(directory, hosts, ca_key, ca, now, written)
        for user in (*permissions.USERS, SYSTEM):
            if not (directory / "users" / f"{user}.nk").exists():
                _new_seed(directory, user, written)
        _accounts(directory, written)
    except (OSError, ValueError, nkeys.NkeysError) as error:
        raise Misconfigured(f"{directory}: {error}") from error
    return written


def rotate(directory: Path, user: str) -> list[str]:
    """Give `user` a second key beside its first: both are let in until `retire`. The old seed is kept as `.nk.old`."""
    path = directory / "users" / f"{user}.nk"
    if not path.exists():
        raise Misconfigured(f"{path} does not exist: make the accounts first")
    written: list[str] = []
    os.replace(path, path.with_suffix(".nk.old"))
    _new_seed(directory, user, written)
    _accounts(directory, written)
    return written


def retire(directory: Path, user: str) -> list[str]:
    """Let the key that `rotate` replaced in no more."""
    written: list[str] = []
    (directory / "users" / f"{user}.nk.old").unlink(missing_ok=True)
    _accounts(directory, written)
    return written


def _authority(
    directory: Path, now: datetime, written: list[str]
) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key_path, path = directory / "ca" / "ca-key.pem", directory / "server" / "ca.pem"
    if key_path.exists() and path.exists():
        key = serialization.load_pem_private_key(key_path.read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise Misconfigured(f"{key_path} is not a key of ours")
        return key, x509.load_pem_x509_certificate(path.read_bytes())
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Nacre bus")])
    ca = (
        _certificate(name, name, key.public_key(), now, CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    _write(key_path, _pem(key), SECRET, written)
    for folder in ("server", "users"):
        _write(directory / folder / "ca.pem", ca.public_bytes(serialization.Encoding.PEM), PUBLIC, written)
    return key, ca


def _server(
    directory: Path,
    hosts: Sequence[str],
    ca_key: ec.EllipticCurvePrivateKey,
    ca: x509.Certificate,
    now: datetime,
    written: list[str],
) -> None:
    path = directory / "server" / "server.pem"
    if path.exists():
        old = x509.load_pem_x509_certificate(path.read_bytes())
        named = old.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        if set(_names(hosts)) == set(named) and old.not_valid_after_utc - now > RENEWED_BEFORE:
            return
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0])])
    certificate = (
        _certificate(subject, ca.subject, key.public_key(), now, SERVER_LIFE)
        .add_extension(x509.SubjectAlternativeName(_names(hosts)), critical=False)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .sign(ca_key, hashes.SHA256())
    )
    _write(directory / "server" / "server-key.pem", _pem(key), SECRET, written)
    _write(path, certificate.public_bytes(serialization.Encoding.PEM), PUBLIC, written)


def _names(hosts: Sequence[str]) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = []
    for host in hosts:
        try:
            names.append(x509.IPAddress(ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host))
    return names


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACK_DATED)
        .not_valid_after(now + life)
    )


def _new_seed(directory: Path, user: str, written: list[str]) -> None:
    seed = nkeys.encode_seed(secrets.token_bytes(32), nkeys.PREFIX_BYTE_USER)
    _write(directory / "users" / f"{user}.nk", bytes(seed) + b"\n", SECRET, written)


def _accounts(directory: Path, written: list[str]) -> None:
    users = directory / "users"
    keys = {
        user: [_public(path) for path in (users / f"{user}.nk", users / f"{user}.nk.old") if path.exists()]
        for user in permissions.USERS
    }
    text = permissions.rendered(keys, _public(users / f"{SYSTEM}.nk")).encode()
    path = directory / "server" / "accounts.conf"
    if not path.exists() or path.read_bytes() != text:
        _write(path, text, PUBLIC, written)


def _public(path: Path) -> str:
    pair = nkeys.from_seed(bytearray(path.read_bytes().strip()))
    public = bytes(pair.public_key).decode()
    pair.wipe()
    return public


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, content: bytes, mode: int, written: list[str]) -> None:
    """All of the file or nothing, also when interrupted."""
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)
    written.append(str(path))

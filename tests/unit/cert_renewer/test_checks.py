from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from libs.alice.identity import alice_dn
from libs.runtime.errors import Malformed
from services.cert_renewer import checks
from services.cert_renewer.checks import Pair, Wanted
from tests.world.acme.authority import BAD, KINDS, Authority, name_of, pem

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
AUTHORITY = Authority(NOW)
KEY = rsa.generate_private_key(65537, 2048)
NAME = "ce.example.org"
DN = f"/O=Nacre Test Site/CN={NAME}"
WANTED = Wanted((AUTHORITY.root.certificate,), "/anchors", DN, (NAME,), server_auth=True)


def key_pem(key: checks.PrivateKey | ed25519.Ed25519PrivateKey | dsa.DSAPrivateKey = KEY) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def pair(kind: str = "good", key: checks.PrivateKey = KEY) -> Pair:
    chain = AUTHORITY.issue(key.public_key(), name_of(NAME), NOW, kind=kind, names=(NAME,))
    return Pair(checks.parsed_chain(chain, "hostcert.pem"), key_pem(key), "/drop")


WORDS = {
    "server_only": "usage: not made for TLS clients (no clientAuth)",
    "may_not_sign": "usage: it may not sign",
    "other_subject": f"subject: /O=Nacre Test Site/CN=somebody.else.example.org is not the expected {DN}",
    "other_names": f"names: {NAME} not among its DNS names",
    "other_key": "key: it does not belong to the certificate; are both from the same renewal?",
    "expired": "certificate: expired at 2026-11-23 11:59 UTC",
    "future": "certificate: not valid before 2026-11-24 12:00 UTC; is this machine's clock right?",
    "without_chain": "append the issuer's certificate",
    "foreign": "neither in the certificate's file nor a trust anchor in /anchors",
    "false_authority": "chain: /O=Nacre Test Authorities/CN=No Authority issued it, and is no authority",
    "expired_authority": "chain: the authority /O=Nacre Test Authorities/CN=Old Authority is expired at 2026-11-22",
    "server_authority": "may not issue for TLS clients",
}


@pytest.mark.parametrize("kind", BAD)
def test_each_kind_of_bad_certificate_has_its_own_words(kind: str) -> None:
    """What is wrong is said of the one thing that is wrong."""
    assert WORDS[kind] in checks.problem(pair(kind), WANTED, NOW)


def test_no_two_kinds_share_their_words() -> None:
    """Whoever reads the reason knows which of them it is."""
    assert len(set(WORDS.values())) == len(WORDS) == len(KINDS) - 3
    assert set(WORDS) == set(BAD)


def test_good_ones_pass() -> None:
    """With both usages, with none named, for a client alone unless a server is wanted, and with either kind of key."""
    assert checks.problem(pair(), WANTED, NOW) == ""
    assert checks.problem(pair("without_usage"), WANTED, NOW) == ""
    assert "no serverAuth" in checks.problem(pair("client_only"), WANTED, NOW)
    modest = Wanted(WANTED.anchors, "/anchors")
    assert checks.problem(pair("client_only"), modest, NOW) == ""
    assert checks.problem(pair("other_subject"), modest, NOW) == ""
    for curve in (ec.SECP256R1(), ec.SECP384R1()):
        assert checks.problem(pair(key=ec.generate_private_key(curve)), WANTED, NOW) == ""


def test_a_trust_anchor_that_ended_is_named_and_its_successor_serves() -> None:
    """Of two anchors of one authority the one that is valid now counts; one that ended is said to have ended."""
    late = NOW + timedelta(days=3649)
    chain = AUTHORITY.issue(KEY.public_key(), name_of(NAME), late, names=(NAME,))
    found = Pair(checks.parsed_chain(chain, "x"), key_pem(), "/drop")
    old = AUTHORITY.root.certificate
    after = late + timedelta(days=2)
    assert "the authority /O=Nacre Test Authorities/CN=Test Grid CA 1 is expired" in checks.problem(
        found, WANTED, after
    )
    renewed = (
        x509.CertificateBuilder(old.issuer, old.subject, AUTHORITY.root.key.public_key(), 7, NOW, after + timedelta(1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(AUTHORITY.root.key, hashes.SHA256())
    )
    direct = AUTHORITY.issue(KEY.public_key(), name_of(NAME), NOW, names=(NAME,))
    both = Wanted((old, renewed), "/anchors", DN, (NAME,))
    assert checks.problem(Pair(checks.parsed_chain(direct, "x"), key_pem(), "/drop"), both, NOW) == ""


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (b"nonsense", "key: this is no whole PEM private key; is it being written just now?"),
        (key_pem()[:500], "key: this is no whole PEM private key"),
        (
            KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")),
            "key: it is encrypted; remove the passphrase",
        ),
        (key_pem(rsa.generate_private_key(65537, 2048)), "key: it does not belong to the certificate"),
    ],
    ids=["nonsense", "half", "encrypted", "another"],
)
def test_an_unfit_key_is_named(key: bytes, words: str) -> None:
    """Half-written, encrypted, or of another pair; none of its bytes is shown."""
    found = checks.problem(Pair(pair().chain, key, "/drop"), WANTED, NOW)
    assert words in found
    assert "PRIVATE" not in found


def self_signed(
    key: checks.PrivateKey | ed25519.Ed25519PrivateKey, *, authority: bool | None = None
) -> x509.Certificate:
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    name = name_of(NAME)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, NOW - timedelta(1), NOW + timedelta(9))
    if authority is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    return builder.sign(key, algorithm)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (rsa.generate_private_key(65537, 1024), "key: RSA of 1024 bits; 2048 to 8192 are taken"),
        (ec.generate_private_key(ec.SECP256K1()), "key: curve secp256k1; secp256r1 and secp384r1 are taken"),
        (ed25519.Ed25519PrivateKey.generate(), "key: neither RSA nor of an elliptic curve"),
    ],
    ids=["short", "curve", "kind"],
)
def test_only_keys_that_everyone_takes_are_taken(
    key: checks.PrivateKey | ed25519.Ed25519PrivateKey, words: str
) -> None:
    """Too short, an unusual curve, an unusual kind."""
    assert words in checks.problem(Pair((self_signed(key),), key_pem(key), "/drop"), WANTED, NOW)


def test_what_the_library_refuses_is_refused() -> None:
    """An authority whose constraints allow no further authority, though each signature is good."""
    narrow = Authority(NOW)
    root = narrow.root
    subject, key, days = root.certificate.subject, root.key.public_key(), timedelta(days=99)
    narrowed = (
        x509.CertificateBuilder(subject, subject, key, 5, NOW - days, NOW + days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(root.key, hashes.SHA256())
    )
    chain = narrow.issue(KEY.public_key(), name_of(NAME), NOW, names=(NAME,))
    found = Pair(checks.parsed_chain(chain, "x"), key_pem(), "/drop")
    assert "chain: it does not verify" in checks.problem(found, Wanted((narrowed,), "/a"), NOW)


def test_a_chain_in_a_circle_ends() -> None:
    """Two authorities that vouch for each other lead nowhere."""
    certificates = []
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    names = [name_of(f"Circle {number}") for number in range(2)]
    for number in range(2):
        builder = x509.CertificateBuilder(
            names[1 - number], names[number], keys[number].public_key(), 9, NOW - timedelta(1), NOW + timedelta(9)
        ).add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        certificates.append(builder.sign(keys[1 - number], hashes.SHA256()))
    leaf = x509.CertificateBuilder(
        names[0], name_of(NAME), KEY.public_key(), 3, NOW - timedelta(1), NOW + timedelta(9)
    ).sign(keys[0], hashes.SHA256())
    found = checks.problem(Pair((leaf, *certificates), key_pem(), "/drop"), Wanted(WANTED.anchors, "/a"), NOW)
    assert found == "chain: longer than 8 certificates"


def test_signatures_and_constraints_of_issuers_count() -> None:
    """An issuer of the right name and another key is none; one without constraints is no authority."""
    impostor = self_signed(ec.generate_private_key(ec.SECP256R1()))
    wanted = Wanted((impostor,), "/a")
    assert "neither in" in checks.problem(Pair((self_signed(KEY),), key_pem(), "/drop"), wanted, NOW)
    own = self_signed(KEY)
    assert "is no authority" in checks.problem(Pair((own,), key_pem(), "/drop"), Wanted((own,), "/a"), NOW)


def test_unreadable_extensions_are_a_problem_not_a_crash() -> None:
    """Whatever bytes an authority signs."""
    rubbish = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.37"), b"\xff\xff")
    leaf = (
        x509.CertificateBuilder(
            name_of("a"), name_of(NAME), KEY.public_key(), 3, NOW - timedelta(1), NOW + timedelta(9)
        )
        .add_extension(rubbish, critical=False)
        .sign(KEY, hashes.SHA256())
    )
    assert (
        checks.problem(Pair((leaf,), key_pem(), "/d"), Wanted((), "/a"), NOW)
        == "certificate: its extensions cannot be read"
    )


def test_half_written_and_foreign_files_are_told_apart() -> None:
    """A file cut within a certificate may be whole in a moment; one without any will not."""
    whole = pem(pair().chain)
    assert len(checks.parsed_chain(whole, "x")) == 2
    for cut in (len(whole) // 3, len(whole) - 10):
        with pytest.raises(Malformed, match=r"hostcert\.pem ends within a certificate"):
            checks.parsed_chain(whole[:cut], "hostcert.pem")
    for content in (b"nonsense", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
        with pytest.raises(Malformed, match="holds no PEM certificate"):
            checks.parsed_chain(content, "hostcert.pem")


def test_a_pair_shows_what_it_is_and_not_its_key() -> None:
    """Fingerprints tell chains and keys apart; the end is that of the first certificate that ends."""
    found, other = pair(), pair("without_chain")
    assert found.fingerprint == Pair(found.chain, found.key_pem, "/x").fingerprint != other.fingerprint
    assert found.fingerprint != Pair(found.chain, b"", "/x").fingerprint
    assert found.chain_pem == pem(found.chain)
    assert found.not_after == found.leaf.not_valid_after_utc
    assert "PRIVATE" not in repr(found)
    assert alice_dn(found.leaf.subject) == DN

"""The search for leaked secrets finds them wherever they are, and leaves out where they belong."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.e2e.canary import Canary, command_lines

PEM = (
    rsa.generate_private_key(65537, 2048)
    .private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    .decode()
)
TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhYmNkZWZnaGlqayJ9.c2lnbmF0dXJlLW9mLWEtdG9rZW4"


@pytest.fixture
def canary(tmp_path: Path) -> Canary:
    """A house with one key where it belongs, which has been replaced by now."""
    (tmp_path / "logs").mkdir()
    (tmp_path / "token.sh").write_text(f'export JALIEN_TOKEN_KEY="{PEM.strip()}"\n')
    found = Canary(tmp_path)
    found.note()
    (tmp_path / "token.sh").write_text("another\n")
    return found


def test_a_quiet_house_is_clean(canary: Canary) -> None:
    """Nothing is found where nothing is, and everything was looked at."""
    (canary.folder / "logs" / "a.log").write_text("all is well")
    assert canary.leaks({"a/metrics": b"nacre_x 1"}) == []
    assert canary.searched > 2


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (PEM, "a private key"),
        (json.dumps({"message": PEM}), "a private key"),
        (PEM.splitlines()[1], ""),
        (f"Authorization: Bearer {TOKEN}", "a JSON web token"),
        (f"v1.perlmutter.1795689696.{'ab' * 32}", "an edge relay's bearer"),
    ],
    ids=["key", "escaped", "line", "token", "bearer"],
)
def test_each_kind_of_secret_is_found_and_not_repeated(canary: Canary, text: str, what: str) -> None:
    """In a log, or on a port; also one line of a key that was in use before; what is said does not hold it."""
    (canary.folder / "logs" / "a.log").write_text(f"before {text} after")
    leaks = canary.leaks({"b/metrics": text.encode()})
    assert leaks
    assert any(leak.startswith("logs/a.log: ") for leak in leaks)
    assert any(leak.startswith("b/metrics: ") for leak in leaks)
    if what:
        assert f"logs/a.log: {what}" in leaks
    assert text not in str(leaks)


def test_where_secrets_belong_is_left_out(canary: Canary) -> None:
    """The token file itself, the installed key, the world's own keys."""
    for name in ("token.sh", ".config/host/1/hostkey.pem", "world/facility/client.pem", "world/central/pki/ca.key"):
        path = canary.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(PEM)
    assert canary.leaks() == []
    (canary.folder / "world" / "facility" / "log").write_text(PEM)
    leaks = canary.leaks()
    assert "world/facility/log: a private key" in leaks
    assert all(leak.startswith("world/facility/log: ") for leak in leaks)


def test_command_lines_are_seen(canary: Canary) -> None:
    """A process that was given a secret as an argument."""
    line = PEM.splitlines()[1]
    process = subprocess.Popen([sys.executable, "-c", "input()", line], stdin=subprocess.PIPE)
    try:
        assert any(line.encode() in text for text in command_lines().values())
        assert any("cmdline" in leak for leak in canary.leaks())
    finally:
        process.communicate(b"\n")

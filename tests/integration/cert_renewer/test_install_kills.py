"""The thousand random kills of install_kills.py, ten of them each time, always the same."""

from datetime import UTC, datetime
from pathlib import Path

from libs.runtime import versions
from tests.integration.cert_renewer import install_kills

SEED, KILLS = 20261125, 10


def test_a_killed_installer_leaves_a_whole_pair(tmp_path: Path) -> None:
    """Whole after every kill, some of which came in the middle; the leftovers go with the next install."""
    found = install_kills.run(KILLS, SEED, tmp_path / "pairs")
    assert found["broken"] == 0
    assert len(found["left"]) == 2


def test_a_broken_pair_would_be_seen(tmp_path: Path) -> None:
    """What looks for a mixed pair finds one."""
    one, other = install_kills.made_pairs(2)
    mixed = {"hostcert.pem": one["hostcert.pem"], "hostkey.pem": other["hostkey.pem"]}
    versions.install(tmp_path, mixed, datetime(2026, 11, 25, tzinfo=UTC))
    assert not install_kills.is_whole(tmp_path)

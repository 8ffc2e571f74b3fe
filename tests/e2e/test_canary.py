"""No key, token or assertion in anything that a disturbed house leaves behind, its debug logs included."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e import canary
from tests.e2e.house import House, standing

pytestmark = pytest.mark.timeout(170)


def until(holds: Callable[[], bool], what: str, timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {timeout_s:.0f} s: {what}"
        time.sleep(0.2)


def logged(house: House, service: str, words: str) -> bool:
    return words in (house.folder / "logs" / f"{service}.log").read_text()


def disturb(house: House) -> None:
    """Whatever makes services speak of credentials: refused, unfit, away, and back."""
    jobs = house.central("/counts")["done"]
    house.central("/grid_jobs", {"ce": house.ce_name, "count": 4})
    drop = house.folder / "hostcert"
    good = (drop / "hostkey.pem").read_bytes()
    shutil.copy(house.folder / "world" / "central" / "pki" / "ca.key", drop / "hostkey.pem")
    until(lambda: logged(house, "cert_renewer", "does not belong to the certificate"), "the foreign key is refused")
    (drop / "hostkey.pem").write_bytes(good)
    client = house.ready["superfacility"]["client_id"]
    house.facility("/_clients", {"client_id": client, "addresses": ["192.0.2.0/24"]})
    until(lambda: logged(house, "status_tracker", "token endpoint"), "the client is refused")
    house.facility("/_clients", {"client_id": client, "addresses": []})
    house.stop_world("central_services")
    token = house.folder / "token.sh"
    token.unlink()
    until(lambda: logged(house, "cert_renewer", "not renewed: central services"), "the token is not renewed")
    house.restart_central_services()
    until(token.exists, "a token is made again")
    until(lambda: house.central("/counts")["done"] >= jobs + 4, "the grid jobs are done")


def test_nothing_secret_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logs at debug level, NATS' store, batch scripts and their output, metrics, command lines: all without one."""
    monkeypatch.setenv("NACRE_LOG_LEVEL", "DEBUG")
    with standing(tmp_path / "house", "model") as house, canary.watching(house.folder) as watched:
        disturb(house)
        leaks = watched.leaks(canary.told(house.ports))
    leaks += watched.leaks()
    assert leaks == []
    assert len(watched.lines) > 9
    store = [path for path in (house.folder / "nats").rglob("*") if path.suffix == ".blk"]
    assert any(b"credential" in path.read_bytes() for path in store)
    assert list(watched.lines.values()).count("token.sh") >= 6

"""`nacre credentials install-client`: checks, tries and swaps a client in one step, or says why not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from libs.runtime import versions
from tests.contract.superfacility_session import Facility
from tests.integration.cert_renewer.conftest import Place

MISCONFIGURED, REFUSED, UNREACHABLE = 78, 77, 69


def nacre(place: Place, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command for the machine of the site."""
    place.load()
    command = [sys.executable, "-m", "services.operator_console.cli", "credentials", "install-client", "perlmutter"]
    environment = os.environ | {"NACRE_CONFIG": str(place.folder / "site.toml")}
    return subprocess.run(
        [*command, *arguments], env=environment, capture_output=True, text=True, timeout=30, check=False
    )


@pytest.fixture
def installed(place: Place) -> Path:
    """Where the site's client is installed."""
    directory = place.folder / ".config" / "superfacility"
    for name, setting in (("client_id", "client_id_file"), ("key.pem", "client_key_file")):
        place.tables["machine"]["perlmutter"][setting] = str(directory / versions.CURRENT / name)
    return directory


def offered(place: Place, facility: Facility) -> tuple[str, ...]:
    """A new client as downloaded from Iris; the options that name it."""
    new = facility.admin("POST", "/_clients", name="new", life_s=47.5 * 3600)
    id_file, key = place.folder / "new_id", place.folder / "new.pem"
    id_file.write_text(new["client_id"] + "\n")
    key.touch(0o600)
    key.write_bytes(Path(new["key_path"]).read_bytes())
    return "--client-id-file", str(id_file), "--key-file", str(key)


def test_a_good_client_is_tried_and_installed(place: Place, installed: Path, facility: Facility) -> None:
    """Private, whole, with its end said; tried without being installed when asked so."""
    options = offered(place, facility)
    tried = nacre(place, *options, "--dry-run")
    assert (tried.returncode, tried.stderr) == (0, "")
    assert "perlmutter: the new client bought an access token; it ends " in tried.stdout
    assert "in 47 h" in tried.stdout
    assert not installed.exists()
    done = nacre(place, *options)
    assert done.returncode == 0, done.stderr
    assert "the services take it up within seconds" in done.stdout
    key = installed / versions.CURRENT / "key.pem"
    assert key.read_bytes() == (place.folder / "new.pem").read_bytes()
    assert key.stat().st_mode & 0o777 == 0o400
    assert "PRIVATE" not in done.stdout + done.stderr


def test_one_that_does_not_serve_is_not_installed(place: Place, installed: Path, facility: Facility) -> None:
    """Refused by the facility, readable for everyone, no key at all, another machine, nobody there: each in words."""
    options = offered(place, facility)
    key, id_file = place.folder / "new.pem", place.folder / "new_id"
    content, client_id = key.read_bytes(), id_file.read_text()
    facility.admin("POST", "/_clients", client_id=client_id.strip(), addresses=["192.0.2.0/24"])
    found = nacre(place, *options)
    assert found.returncode == REFUSED
    assert "not in its IP ranges" in found.stderr
    key.chmod(0o644)
    found = nacre(place, *options)
    assert (found.returncode, "chmod 0400 it" in found.stderr) == (MISCONFIGURED, True)
    key.chmod(0o600)
    key.write_text("s3cret")
    found = nacre(place, *options)
    assert (found.returncode, "not an RSA private key" in found.stderr) == (MISCONFIGURED, True)
    assert "s3cret" not in found.stderr
    key.write_bytes(content)
    place.tables["machine"]["perlmutter"]["token_url"] = "http://127.0.0.1:1/token"
    found = nacre(place, *options)
    assert (found.returncode, "no connection" in found.stderr) == (UNREACHABLE, True)
    assert not installed.exists()


def test_where_a_secret_holds_the_client_it_says_how_to_replace_that(place: Place, facility: Facility) -> None:
    """Checked and tried all the same; the command to use instead has the names of both files."""
    found = nacre(place, *offered(place, facility))
    assert found.returncode == MISCONFIGURED
    assert "bought an access token" in found.stdout
    assert "kubectl create secret generic superfacility --from-file=id=" in found.stderr
    assert f"--from-file=key={place.folder}/new.pem" in found.stderr

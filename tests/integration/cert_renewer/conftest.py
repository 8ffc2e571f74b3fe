"""A site whose host certificate is installed by cert_renewer, over the world's central services and its facility."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from libs.runtime.site import Site, load
from tests.contract.alice.world import World
from tests.contract.superfacility_session import Facility
from tests.integration.central.conftest import tables, toml
from tests.world.acme.authority import Signer, reissued
from tests.world.processes import start


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Central services with one CE."""
    found = World(tmp_path / "central", ("--ce", "firstce"))
    await found.start()
    yield found
    await found.stop()


@pytest.fixture(scope="module")
def facility(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Facility]:
    """The Superfacility API over the model of a Slurm."""
    state = str(tmp_path_factory.mktemp("facility"))
    with start("tests.world.superfacility", "--state", state, "--slurm", "model") as (_, ready):
        yield Facility(ready, "model")


@dataclass(frozen=True)
class Place:
    """The site's folders and tables; `load` gives the site."""

    folder: Path
    tables: dict[str, Any]

    @property
    def drop(self) -> Path:
        """Where renewed host certificates are put."""
        return self.folder / "host"

    @property
    def installed(self) -> Path:
        """Where the holders read the host certificate."""
        return self.folder / ".config" / "host_certificate" / "current"

    @property
    def token(self) -> Path:
        """The job agents' token file."""
        return self.folder / "shared" / "token"

    @property
    def client(self) -> Path:
        """Where the holders read the API client."""
        return self.folder / "client"

    def load(self) -> Site:
        """The site file as it is now."""
        path = self.folder / "site.toml"
        path.write_text(toml(self.tables))
        return load(path)


@pytest.fixture
def place(world: World, facility: Facility, tmp_path: Path) -> Place:
    """The site, with quick intervals."""
    found = Place(tmp_path, tables(world, tmp_path))
    found.tables["central_services"] |= {
        "certificate": str(found.installed / "hostcert.pem"),
        "key": str(found.installed / "hostkey.pem"),
    }
    key = found.client / "key"
    key.write_bytes(Path(facility.ready["key_path"]).read_bytes())
    key.chmod(0o400)
    (found.client / "id").write_text(facility.ready["client_id"])
    found.tables["machine"]["perlmutter"] |= {
        "api_url": facility.ready["api_base_url"],
        "token_url": facility.ready["token_url"],
        "requests_per_s": 500.0,
    }
    found.tables["credentials"]["client_check_interval_s"] = 1.0
    return found


@pytest.fixture
def site(place: Place) -> Site:
    """The site as a service reads it."""
    return place.load()


def renewed(world: World) -> tuple[bytes, bytes]:
    """Another certificate and key for the same account of the central services, from their own authority."""
    pki = Path(world.ready["ca"]).parent
    signing = load_pem_private_key((pki / "ca.key").read_bytes(), None)
    assert isinstance(signing, rsa.RSAPrivateKey)
    signer = Signer(x509.load_pem_x509_certificate((pki / "ca.pem").read_bytes()), signing)
    old = x509.load_pem_x509_certificate(Path(world.ready["cert"]).read_bytes())
    key = rsa.generate_private_key(65537, 2048)
    chain = reissued(old, key.public_key(), signer, datetime.now(UTC))
    return chain, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def put(directory: Path, chain: bytes, key: bytes, names: tuple[str, str] = ("hostcert.pem", "hostkey.pem")) -> None:
    """As whoever renews certificates does it: the key first, then the certificate."""
    path = directory / names[1]
    path.unlink(missing_ok=True)
    path.touch(0o600)
    path.write_bytes(key)
    (directory / names[0]).write_bytes(chain)

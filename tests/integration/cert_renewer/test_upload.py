"""The token file where nothing is mounted: uploaded through the Superfacility API, always private and whole."""

import contextlib
import stat
import threading
from collections.abc import AsyncIterator

import pytest

from libs.bus.connection import Bus
from libs.runtime.errors import NacreError
from libs.slurm import endpoint, superfacility
from services.cert_renewer.destination import Uploaded
from services.cert_renewer.service import serve
from tests.contract.superfacility_session import Facility
from tests.integration.central.conftest import running, until
from tests.integration.cert_renewer.conftest import Place
from tests.nats_server import NatsServer


@pytest.fixture
async def destination(place: Place) -> AsyncIterator[Uploaded]:
    """The worker nodes' directory, behind the API."""
    found = endpoint.unchecked(place.load(), "perlmutter", 1.0)
    async with superfacility.connected(found) as client:
        yield Uploaded(client, "perlmutter", place.token.parent)


async def test_a_reader_finds_the_old_file_or_the_new_one_always_private(place: Place, destination: Uploaded) -> None:
    """While it is replaced again and again, a reader never sees half of one, nor one that others may read."""
    place.token.write_text("old")
    place.token.chmod(0o600)
    contents = [f"{number}\n".encode() * 20_000 for number in range(2)]
    stop, odd = threading.Event(), list[str]()

    def read() -> None:
        whole = {b"old", *contents}
        while not stop.is_set():
            content, modes = place.token.read_bytes(), set()
            for one in place.token.parent.iterdir():
                with contextlib.suppress(FileNotFoundError):
                    modes.add(stat.S_IMODE(one.stat().st_mode))
            if content not in whole or modes - {0o600}:
                odd.append(str(modes))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for content in contents:
            await destination.put("token", content)
            assert place.token.read_bytes() == content
    finally:
        stop.set()
        reader.join()
    assert odd == []
    assert [one.name for one in place.token.parent.iterdir()] == ["token"]
    assert destination.place("token") == f"perlmutter:{place.token}"


async def test_a_failure_leaves_the_old_file_and_nothing_beside_it(
    place: Place, destination: Uploaded, facility: Facility
) -> None:
    """The upload refused, or the directory gone: told, and the old token stays."""
    place.token.write_text("old")
    facility.admin("POST", "/_faults", kind="error_200", path="/utilities/upload/*", method="PUT", count=1)
    with pytest.raises(NacreError):
        await destination.put("token", b"new")
    assert place.token.read_text() == "old"
    assert [one.name for one in place.token.parent.iterdir()] == ["token"]
    place.token.rename(place.folder / "elsewhere")
    place.token.parent.rmdir()
    with pytest.raises(NacreError):
        await destination.put("token", b"new")


async def test_the_service_uploads_the_token(place: Place, nats_server: NatsServer, bus: Bus) -> None:
    """With token_machine the path is one over there; the token is the same, and it is refreshed."""
    place.tables["credentials"]["token_machine"] = "perlmutter"
    async with running("cert_renewer", serve, place.load(), nats_server):
        await until(place.token.exists)
        first = place.token.read_text()
        assert "BEGIN RSA PRIVATE KEY" in first
        await until(lambda: place.token.read_text() != first)
    assert stat.S_IMODE(place.token.stat().st_mode) == 0o600

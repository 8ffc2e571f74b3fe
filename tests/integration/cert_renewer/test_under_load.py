"""Credentials are swapped while their holders are busy: no request fails, and the new one is in use within seconds."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from libs.alice.client import CentralServices
from libs.alice.connection import Settings
from libs.runtime import versions
from libs.runtime.site import Site
from libs.slurm import superfacility
from libs.slurm.endpoint import unchecked
from libs.slurm.superfacility import SuperfacilityClient
from tests.contract.alice.world import World
from tests.contract.superfacility_session import Facility
from tests.integration.central.conftest import until
from tests.integration.cert_renewer.conftest import Place, renewed

REACHED_S = 5.0
TASKS = 4


@asynccontextmanager
async def busy(ask: Callable[[], Awaitable[object]]) -> AsyncIterator[list[int]]:
    """Ask without a pause from several tasks; the count of answers. A failure of one ends all, and is raised."""
    answers = [0]
    stop = asyncio.Event()

    async def work() -> None:
        while not stop.is_set():
            await ask()
            answers[0] += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(TASKS):
            group.create_task(work())
        try:
            yield answers
        finally:
            stop.set()


async def more(answers: list[int], by: int) -> None:
    """Wait for so many more answers."""
    wanted = answers[0] + by
    await until(lambda: answers[0] >= wanted)


def install_host(place: Place, chain: bytes, key: bytes) -> None:
    files = {"hostcert.pem": versions.File(chain, 0o444), "hostkey.pem": versions.File(key)}
    versions.install(place.installed.parent, files, datetime.now(UTC))


async def test_the_central_services_connection_goes_through_swaps(place: Place, site: Site, world: World) -> None:
    """Requests go on over the old certificate until one goes over the new one; none fails."""
    install_host(place, *((place.drop / name).read_bytes() for name in ("hostcert.pem", "hostkey.pem")))
    async with CentralServices(Settings.of(site.central_services)) as client:

        def shown() -> bytes:
            """The certificate that the kept connection was opened with."""
            kept = client._connection
            return kept.loaded.certificates_der[0] if kept is not None else b""

        async with busy(lambda: client.free_slots(world.ready["ce_host"], world.ready["ces"][0])) as answers:
            seen = {b""}
            for _ in range(5):
                await more(answers, 20)
                seen.add(shown())
                install_host(place, *await asyncio.to_thread(renewed, world))
                await until(lambda: shown() not in seen, REACHED_S)
                await more(answers, 20)
            assert len(seen) == 6


@pytest.fixture
def installed_client(place: Place) -> Place:
    """The API client's files as versions."""
    directory = place.folder / ".config" / "superfacility"
    for name, setting in (("id", "client_id_file"), ("key", "client_key_file")):
        place.tables["machine"]["perlmutter"][setting] = str(directory / versions.CURRENT / name)
    swap(place, (place.client / "id").read_text(), place.client / "key")
    return place


def swap(place: Place, client_id: str, key: Path) -> None:
    files = {"id": versions.File(client_id.encode()), "key": versions.File(key.read_bytes())}
    versions.install(place.folder / ".config" / "superfacility", files, datetime.now(UTC))


def connected(place: Place) -> AbstractAsyncContextManager[SuperfacilityClient]:
    """The API's client as a service has it."""
    return superfacility.connected(unchecked(place.load(), "perlmutter", 1.0))


async def bought(facility: Facility, client: dict[str, str]) -> None:
    """Wait until the client has bought a token."""

    def sold() -> int:
        rows = facility.admin("GET", "/_clients")
        return next(int(row["tokens_sold"]) for row in rows if row["client_id"] == client["client_id"])

    await until(sold, REACHED_S)


async def test_the_api_client_goes_through_swaps(installed_client: Place, facility: Facility) -> None:
    """Old and new overlap for a moment; the new one buys a token within seconds; then the old one ends; none fails."""

    old = facility.admin("POST", "/_clients", name="first")
    swap(installed_client, old["client_id"], Path(old["key_path"]))
    async with connected(installed_client) as client, busy(lambda: client.listing("nobody")) as answers:
        for _ in range(2):
            await more(answers, 10)
            new = facility.admin("POST", "/_clients", name="next")
            swap(installed_client, new["client_id"], Path(new["key_path"]))
            await bought(facility, new)
            facility.admin("POST", "/_clients", client_id=old["client_id"], life_s=0)
            old = new
            await more(answers, 10)


async def test_a_client_that_does_not_serve_is_not_used(installed_client: Place, facility: Facility) -> None:
    """Somebody installs half of one: tried, refused, and the one before serves on, for new tokens, too."""
    good = facility.admin("POST", "/_clients", name="good")
    other = facility.admin("POST", "/_clients", name="other")
    swap(installed_client, good["client_id"], Path(good["key_path"]))
    async with connected(installed_client) as client, busy(lambda: client.listing("nobody")) as answers:
        await more(answers, 10)
        swap(installed_client, other["client_id"], Path(good["key_path"]))
        rows = len(facility.admin("GET", "/_log"))
        await until(lambda: _refusals(facility, rows) > 0, REACHED_S)
        await more(answers, 10)
        client._api._tokens.drop(client._api._tokens._token)
        await more(answers, 20)


def _refusals(facility: Facility, since: int) -> int:
    log = facility.admin("GET", "/_log")[since:]
    return sum(entry["path"].endswith("/token") and entry["status"] == 401 for entry in log)


async def test_kubernetes_own_swap_is_followed(place: Place, facility: Facility) -> None:
    """A secret's volume: files are links through `..data`, which is renamed over; both change at one instant."""
    volume = place.folder / "secret"

    def fill(name: str, client: dict[str, str]) -> None:
        (volume / name).mkdir(parents=True)
        (volume / name / "id").write_text(client["client_id"])
        shutil.copy(client["key_path"], volume / name / "key")
        (volume / name / "key").chmod(0o440)
        fresh = volume / "..data_tmp"
        fresh.symlink_to(name)
        fresh.rename(volume / "..data")

    first, second = (facility.admin("POST", "/_clients", name=name) for name in ("first", "second"))
    fill("..2026_1", first)
    for name in ("id", "key"):
        (volume / name).symlink_to(f"..data/{name}")
    place.tables["machine"]["perlmutter"] |= {
        "client_id_file": str(volume / "id"),
        "client_key_file": str(volume / "key"),
    }
    async with connected(place) as client, busy(lambda: client.listing("nobody")) as answers:
        await more(answers, 10)
        fill("..2026_2", second)
        await bought(facility, second)
        await more(answers, 10)

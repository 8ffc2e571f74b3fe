"""The renewer's story: each credential has a keeper that looks, renews and installs; the board tells what they saw."""

import asyncio
import contextlib
import logging
from importlib.metadata import version
from pathlib import Path

from libs.alice.client import CentralServices
from libs.alice.connection import Settings
from libs.alice.identity import CurrentIdentity
from libs.bus import connection
from libs.bus.connection import Bus
from libs.runtime import versions
from libs.runtime.errors import Misconfigured, NacreError, Transient
from libs.runtime.file_work import FileWork
from libs.runtime.reconcile import reconcile
from libs.runtime.run import Context
from libs.runtime.site import Site
from libs.slurm import endpoint, superfacility
from services.cert_renewer.destination import Destination, Mounted, Uploaded
from services.cert_renewer.keepers.api_client import ApiClientKeeper
from services.cert_renewer.keepers.bearer import BearerKeeper
from services.cert_renewer.keepers.host import HostKeeper
from services.cert_renewer.keepers.keeper import Keeper
from services.cert_renewer.keepers.token import TokenKeeper
from services.cert_renewer.renewer import Board, Loop
from services.cert_renewer.sources import watched
from services.cert_renewer.sources.manual import Manual
from services.cert_renewer.sources.ordered import Ordered
from services.cert_renewer.sources.requested import Pending
from services.cert_renewer.sources.source import Source
from services.cert_renewer.sources.watched import Watched

# Of the API's rate: two requests every few minutes, and about eight more where the token file is uploaded.
SHARE_OF_THE_RATE = 0.1
FLOOR_S = 0.2

log = logging.getLogger(__name__)


async def serve(context: Context) -> None:
    """Keep every credential while this instance holds the lease. Misconfigured when the site file cannot be right."""
    site = context.site
    host = _host_keeper(site)
    central = Settings.of(site.central_services)
    current = CurrentIdentity(central.identity, verify_name=central.verify_name)
    await _check_directories(site)
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(CentralServices(central, current))
        destination = await _destination(site, stack)
        bus = await stack.enter_async_context(connection.attached(context))

        async def work(fence: int) -> None:
            token = TokenKeeper(site.credentials, client, current, destination)
            others: list[Keeper] = [*_bearer_keepers(site, destination), *_client_keepers(site)]
            await _keep(context, bus, host, token, others)

        # Two writers of one token file would each replace what the other has just told of.
        await bus.hold("cert_renewer.active", work, stop=context.stop, health=context.health)


async def _keep(context: Context, bus: Bus, host: HostKeeper, token: TokenKeeper, others: list[Keeper]) -> None:
    """Each keeper at its own pace, so that an order that takes minutes or a file system that hangs delays no other."""
    interval_s = context.site.credentials.check_interval_s
    with contextlib.closing(Board(bus, context.health)) as board:
        tokens = Loop(token, board)
        loops = [Loop(host, board, (tokens.wake,)), tokens, *(Loop(keeper, board) for keeper in others)]
        async with asyncio.TaskGroup() as group:
            for loop in loops:
                group.create_task(
                    reconcile(
                        loop.keeper.name,
                        loop.step,
                        every_s=interval_s,
                        pause_s=loop.pause_s,
                        wake=loop.wake,
                        floor_s=FLOOR_S,
                        stop=context.stop,
                        health=context.health,
                        step_bound_s=loop.keeper.longest_look_s,
                    )
                )
            group.create_task(
                reconcile(
                    "credentials",
                    board.tell,
                    every_s=interval_s,
                    wake=board.changed,
                    floor_s=FLOOR_S,
                    stop=context.stop,
                    health=context.health,
                )
            )
        with contextlib.suppress(Transient):
            await board.tell()


def _host_keeper(site: Site) -> HostKeeper:
    """The keeper of the pair that central_services names. Misconfigured when that is no place to install a pair."""
    central, settings = site.central_services, site.credentials.host_certificate
    directory = versions.directory_of(central.certificate, "central_services.certificate")
    if versions.directory_of(central.key, "central_services.key") != directory:
        raise Misconfigured("central_services.key must be in the same directory as central_services.certificate")
    source, longest_look_s = _source(site, directory)
    return HostKeeper(
        settings,
        settings.anchors or central.ca,
        directory,
        (central.certificate.name, central.key.name),
        source,
        longest_look_s=longest_look_s,
    )


def _source(site: Site, directory: Path) -> tuple[Source, float]:
    """Where the next pair comes from, and how long a look at it may take."""
    settings, dropped = site.credentials.host_certificate, site.credentials.host_certificate_directory
    pending = Pending(directory, settings)
    if settings.source == "acme" and settings.acme is not None:
        user_agent = f"nacre/{version('nacre')} ({site.site.contact})"
        return Ordered(settings.acme, pending, directory, user_agent), settings.acme.patience_s + 120.0
    if dropped is None:
        raise Misconfigured("credentials.host_certificate_directory is not set")
    if settings.source == "manual":
        return Manual(dropped, pending), 120.0
    if settings.source == "host_token":
        return Watched(dropped, watched.HOST_TOKEN, who="an ALICE administrator"), 120.0
    return Watched(dropped, watched.PAIR, who="whoever renews the host certificate"), 120.0


async def _check_directories(site: Site) -> None:
    """Misconfigured when a directory is not there. One that hangs is no slip: what is needed of it is told later."""
    credentials = site.credentials
    dropped = credentials.host_certificate_directory
    needed = {} if credentials.token_machine else {"token_file": credentials.token_file.parent}
    if dropped is not None and not versions.in_effect(site.central_services.certificate.parent.parent):
        needed["host_certificate_directory"] = dropped
    for setting, directory in needed.items():
        try:
            is_there = await FileWork(f"directory {directory}").run(directory.is_dir)
        except NacreError as error:
            log.warning("credentials.%s: %s", setting, error)
            continue
        if not is_there:
            raise Misconfigured(
                f"credentials.{setting}: directory {directory} does not exist; mount it, or correct the path"
            )


async def _destination(site: Site, stack: contextlib.AsyncExitStack) -> Destination:
    machine, directory = site.credentials.token_machine, site.credentials.token_file.parent
    if machine is None:
        return Mounted(directory)
    found = endpoint.unchecked(site, machine, SHARE_OF_THE_RATE)
    return Uploaded(await stack.enter_async_context(superfacility.connected(found)), machine, directory)


def _bearer_keepers(site: Site, destination: Destination) -> list[BearerKeeper]:
    edge = site.monitoring.edge
    if edge is None:
        return []
    return [BearerKeeper(edge, machine, site.credentials.token_refresh_s, destination) for machine in site.machine]


def _client_keepers(site: Site) -> list[ApiClientKeeper]:
    return [
        ApiClientKeeper(
            endpoint.unchecked(site, machine, SHARE_OF_THE_RATE), table.user, site.credentials.client_check_interval_s
        )
        for machine, table in site.machine.items()
        if table.flavour != "local"
    ]

"""The renewer's story: look at every credential -> take a new host certificate -> make the token anew -> tell."""

import contextlib
import logging

from libs.alice.client import CentralServices
from libs.alice.connection import Settings
from libs.bus import connection
from libs.runtime import clock
from libs.runtime.errors import Misconfigured
from libs.runtime.reconcile import reconcile
from libs.runtime.run import Context
from libs.runtime.site import Credentials
from services.cert_renewer import sources, token_file
from services.cert_renewer.renewer import Renewer

log = logging.getLogger(__name__)


async def serve(context: Context) -> None:
    """Watch and renew while this instance holds the lease. Misconfigured when files are unfit at the start."""
    credentials = context.site.credentials
    central = Settings.of(context.site.central_services)
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(CentralServices(central))
        client.check_files()
        _check(credentials)
        bus = await stack.enter_async_context(connection.attached(context))

        async def work(fence: int) -> None:
            if removed := token_file.sweep(credentials.token_file, clock.now()):
                log.info("removed %d half-written token files of killed processes", removed)
            with contextlib.closing(Renewer(context.site, client, bus, context.health)) as renewer:
                await reconcile(
                    "credentials",
                    renewer.step,
                    every_s=credentials.check_interval_s,
                    wake=renewer.wake,
                    floor_s=1.0,
                    stop=context.stop,
                    health=context.health,
                )

        # Two writers of one token file would each replace what the other has just told of.
        await bus.hold("cert_renewer.active", work, stop=context.stop, health=context.health)


def _check(credentials: Credentials) -> None:
    if problem := sources.host_certificate(credentials.host_certificate_directory).problem:
        raise Misconfigured(problem)
    if not credentials.token_file.parent.is_dir():
        raise Misconfigured(
            f"token file: directory {credentials.token_file.parent} does not exist; "
            "mount the file system that the worker nodes share, or correct credentials.token_file"
        )

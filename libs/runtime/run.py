"""Run one service: command line, site file, logs, telemetry, HTTP port, signals, drain, exit code.

Exit codes: 0 stopped as asked, 64 wrong command line, 69 something needed at start could not be reached,
77 refused by the other side, 78 the configuration is wrong, 1 a bug (the orchestrator restarts the process).
"""

import argparse
import asyncio
import logging
import re
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

import uvloop

from libs.runtime import http_port, logs, telemetry
from libs.runtime import site as site_file
from libs.runtime.errors import Misconfigured, NacreError
from libs.runtime.exit_codes import EXIT_USAGE, exit_code
from libs.runtime.health import Health

DRAIN_S = 20.0

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Context:
    """What a service is given: its site file, its names, and the event that asks it to stop.

    `instance` is NACRE_INSTANCE or the host's name: the same after a restart, `[a-z0-9-]`.
    """

    service: str
    instance: str
    site: site_file.Site
    nats_url: str
    options: argparse.Namespace
    environment: site_file.Environment = field(default_factory=site_file.Environment)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    health: Health = field(default_factory=Health)

    @property
    def by(self) -> str:
        """`<service>/<instance>`, as every message says who wrote it."""
        return f"{self.service}/{self.instance}"


Serve = Callable[[Context], Awaitable[None]]
Once = Callable[[Context], Awaitable[int]]
AddOptions = Callable[[argparse.ArgumentParser], None]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(EXIT_USAGE, f"{self.prog}: {message}\n")


def run(
    service: str,
    serve: Serve,
    add_options: AddOptions | None = None,
    arguments: Sequence[str] | None = None,
    *,
    once: Once | None = None,
) -> int:
    """Run `serve` until it ends or a signal asks it to; gives the exit code. `serve` returns soon after `stop`.

    With `once` the service has the option --once: then only that runs, without HTTP port, telemetry and signals of a
    service, and gives the exit code itself.
    """
    parser = _Parser(
        prog=f"python -m services.{service}", epilog=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--config", metavar="FILE", help="the site file (default: NACRE_CONFIG)")
    parser.add_argument("--log-format", choices=["json", "console"], help="default: console in a terminal, else json")
    parser.set_defaults(once=False)
    if once:
        parser.add_argument("--once", action="store_true", help="look once, print a report and end")
    if add_options:
        add_options(parser)
    options = parser.parse_args(arguments)
    # A person asked for a report and wants lines.
    form = options.log_format or ("console" if options.once else "")
    logs.set_up(service, form)
    try:
        environment = site_file.environment()
        logs.set_up(service, form or environment.log_format, environment.log_level)
        path = options.config or environment.config
        if not path:
            raise Misconfigured("no site file: give --config FILE or set NACRE_CONFIG")
        site = site_file.load(path)
        context = Context(
            service=service,
            instance=_name(environment.instance or socket.gethostname().partition(".")[0]),
            site=site,
            nats_url=environment.nats_url or site.bus.url,
            options=options,
            environment=environment,
        )
        listen = environment.http_listen or site.telemetry.http_listen
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            if once and options.once:
                return runner.run(_awaited(once(context)))
            runner.run(_run(context, serve, listen))
    except NacreError as error:
        log.error("%s", error)
        return exit_code(error)
    except BaseExceptionGroup as group:
        named = group.subgroup(NacreError)
        rest = group.split(NacreError)[1]
        if named is None or rest is not None:
            raise
        for leaf in _leaves(named):
            log.error("%s", leaf)
        return max(exit_code(leaf) for leaf in _leaves(named))
    return 0


async def _awaited(code: Awaitable[int]) -> int:
    return await code


async def _run(context: Context, serve: Serve, listen: str) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, context.stop.set)
    with telemetry.collecting(context.service, context.instance, context.site.telemetry.otlp_endpoint):
        async with http_port.serving(listen, context.health, telemetry.prometheus_text):
            task = asyncio.ensure_future(serve(context))
            stopped = asyncio.ensure_future(context.stop.wait())
            await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
            if not task.done():
                log.info("stopping: finishing what is under way, at most %.0f s", DRAIN_S)
                await asyncio.wait({task}, timeout=DRAIN_S)
            if not task.done():
                log.warning("work under way did not end in %.0f s and is cut off", DRAIN_S)
                task.cancel()
                await asyncio.wait({task}, timeout=DRAIN_S)
            if task.done() and not task.cancelled():
                task.result()


def _name(text: str) -> str:
    return re.sub(r"[^a-z0-9-]", "-", text.lower()) or "unnamed"


def _leaves(group: BaseExceptionGroup[NacreError]) -> list[NacreError]:
    found: list[NacreError] = []
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            found += _leaves(error)
        else:
            found.append(error)
    return found

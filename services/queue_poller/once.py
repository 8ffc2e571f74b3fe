"""One look for people: asks what the poller asks, prints a report, publishes nothing. Needs no NATS."""

import argparse
import logging
import sys
from collections.abc import Awaitable
from typing import TypeVar

from libs.alice import site_config as directory
from libs.alice.answers import WaitingJobs
from libs.alice.client import CentralServices
from libs.alice.connection import Settings
from libs.alice.site_map import site_map
from libs.events.messages import SiteConfigObserved
from libs.runtime import clock
from libs.runtime.errors import Misconfigured, NacreError, Refused
from libs.runtime.exit_codes import exit_code
from libs.runtime.run import Context
from libs.runtime.site import Ce, overlay
from services.queue_poller import report, settings, site_config

T = TypeVar("T")
log = logging.getLogger(__name__)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of --once."""
    parser.add_argument("--ce", metavar="NAME", help="with --once: only this CE, by its short or its full name")


async def look(context: Context) -> int:
    """Print the report of one CE or of all; gives the exit code: 0, or of the first step that failed, said in one line.

    A CE whose step failed does not keep the others from being asked.
    """
    ces = named(context.site.ce, context.options.ce)
    table = context.site.central_services
    async with CentralServices(Settings.of(table)) as client:
        loaded = client.check_files()
        pong, spent_s = await _timed(client.ping())
        now = clock.now()
        _print(report.ours(table.account, loaded, pong, now=now))
        _print(report.theirs(client.server, pong, client.peer, spent_s=spent_s, now=now))
        codes = [await _look_at(client, short, ce) for short, ce in ces.items()]
    return next((code for code in codes if code), 0)


def named(ces: dict[str, Ce], name: str | None) -> dict[str, Ce]:
    """The CE of that short or full name, all without a name; Misconfigured says which there are."""
    found = {short: ce for short, ce in ces.items() if name in (None, short, ce.name)}
    if not found:
        valid = ", ".join(f"{short} ({ce.name})" for short, ce in ces.items())
        raise Misconfigured(f"no CE {name!r} in the site file; there are {valid}")
    return found


async def _look_at(client: CentralServices, short: str, ce: Ce) -> int:
    _print(report.heading(short, ce))
    observed, code = await _site_config(client, short, ce)
    found = overlay.effective(ce, observed)
    _print(report.site_config(found, observed))
    try:
        await _ask(client, found.ce, observed)
    except NacreError as error:
        log.error("%s: %s", ce.name, error)
        return code or exit_code(error)
    return code


async def _site_config(client: CentralServices, short: str, ce: Ce) -> tuple[SiteConfigObserved | None, int]:
    """What ALICE says about the CE, and the exit code; without it the others go on with the site file's."""
    try:
        reading, spent_s = await _timed(site_config.ask(client, ce))
    except NacreError as error:
        log.error("%s: site configuration: %s", ce.name, site_config.reason(error))
        return None, exit_code(error)
    _print(report.site_config_read(spent_s=spent_s))
    return directory.observed(reading, None, ce=short, at=clock.now(), by="once"), 0


async def _ask(client: CentralServices, ce: Ce, observed: SiteConfigObserved | None) -> None:
    """Free slots, except in shadow mode, and waiting jobs. Refused when either was answered without a number."""
    problem = ""
    if ce.mode == "shadow":
        _print(report.shadow(ce.limits))
    else:
        free, spent_s = await _timed(client.free_slots(ce.host, ce.name))
        _print(report.free_slots(free, spent_s=spent_s))
        problem = report.problem(free)
    waiting: WaitingJobs
    waiting, spent_s = await _timed(client.waiting_jobs(site_map(settings.facts(ce, observed))))
    _print(report.waiting_jobs(waiting, spent_s=spent_s))
    if problem or waiting.count is None:
        raise Refused(problem or "waiting jobs: the broker did not count")


async def _timed(asked: Awaitable[T]) -> tuple[T, float]:
    """The answer and the seconds it took."""
    started_s = clock.monotonic_s()
    return await asked, clock.monotonic_s() - started_s


def _print(lines: list[str]) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()

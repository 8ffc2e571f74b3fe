"""The site configuration of every CE: read through the central services, published, and laid over the site file."""

import asyncio
import logging
import random
from collections.abc import Mapping
from datetime import datetime

import msgspec
from opentelemetry import metrics

from libs.alice import failures, site_config
from libs.alice.client import CentralServices
from libs.alice.failures import ClosedWithoutReply
from libs.alice.site_config import Reading
from libs.bus.connection import Bus, Latest
from libs.events import subjects
from libs.events.messages import FacilityObserved, SiteConfigObserved
from libs.runtime import clock
from libs.runtime.errors import NacreError, Transient
from libs.runtime.reconcile import either
from libs.runtime.site import Ce, overlay
from libs.runtime.site.overlay import Effective
from services.queue_poller import decide

FIRST_S = 10.0

log = logging.getLogger(__name__)


class Sources(msgspec.Struct, frozen=True, kw_only=True):
    """What the bus knows of one CE: its last site configuration, and its machine's planned outages."""

    published: Latest[SiteConfigObserved]
    facility: Latest[FacilityObserved]


async def ask(client: CentralServices, ce: Ce) -> Reading:
    """One reading. Raises as every request does; servers before 2024 close the connection."""
    asked = site_config.questions(ce.name, ce.host)
    return asked.reading(
        site=await client.ldap_tree(asked.site),
        host=await client.ldap_tree(asked.host),
        ce=await client.ldap_tree(asked.ce),
        partitions=await client.ldap_info(asked.partitions),
    )


def reason(error: NacreError) -> str:
    """Why the site configuration could not be read."""
    if isinstance(error, ClosedWithoutReply):
        return f"{error}; releases before 2024 do so when they are asked for LDAP"
    return str(error)


class SiteConfigs:
    """Every CE as it is run. `ready` is set once each has been asked for, well or not."""

    def __init__(
        self,
        ces: Mapping[str, Ce],
        client: CentralServices,
        sources: Mapping[str, Sources],
        bus: Bus,
        *,
        interval_s: float,
    ) -> None:
        self.ready = asyncio.Event()
        self._interval_s = interval_s
        self._ces = ces
        self._client = client
        self._sources = sources
        self._bus = bus
        self._read: dict[str, SiteConfigObserved] = {}
        self._said: dict[str, list[str]] = {}
        self._readings = metrics.get_meter("nacre.queue_poller").create_counter(
            "nacre_site_config_readings", description="readings of the site configuration, by result"
        )

    def name(self, short: str) -> str:
        """The CE's full name."""
        return self._ces[short].name

    def observed(self, short: str) -> SiteConfigObserved | None:
        """What ALICE said last; after a start, what an earlier instance had published."""
        return self._read.get(short) or self._sources[short].published.value

    def effective(self, short: str, now: datetime) -> Effective:
        """The CE with ALICE's settings, its time to live no longer than until the next planned outage."""
        found = overlay.effective(self._ces[short], self.observed(short))
        return overlay.before_outage(found, self._sources[short].facility.value, now)

    async def published(self, stop: asyncio.Event) -> bool:
        """Wait for what an earlier instance published of every CE; False when `stop` came first."""
        for source in self._sources.values():
            if not await source.published.read(stop):
                return False
        return True

    async def first(self, short: str, stop: asyncio.Event) -> None:
        """Wait, for a while, until the CE's configuration is known: after that the site file's stands alone."""
        if await self._sources[short].published.read(stop) and self.observed(short) is None:
            await either(self.ready, stop, FIRST_S)

    def pause_s(self) -> float:
        """How long after the start of the last reading the next one is due."""
        return decide.pause_s(self._interval_s, 0, random.random())

    async def step(self) -> None:
        """Read and publish, CE after CE, over a connection of its own, which polls need not wait for.

        Transient only when the bus is away.
        """
        failed: NacreError | None = None
        for short in self._ces:
            # Who is away for one CE is away for the others: a round ends in time.
            failed = await self._observe(short, failed if isinstance(failed, Transient) else None)
        await self._client.close()
        self.ready.set()
        for short, found in self._read.items():
            await self._bus.publish(subjects.SITE_CONFIG_OBSERVED, short, found)

    async def _observe(self, short: str, away: NacreError | None) -> NacreError | None:
        """Read one CE's configuration, unless the central services are away; gives why that failed."""
        previous, at, by = self.observed(short), clock.now(), self._bus.by
        try:
            reading = await self._ask(short, away)
        except NacreError as error:
            found = site_config.not_observed(reason(error), previous, ce=short, at=at, by=by)
            self._note(short, found, previous, failures.kind(error))
            return error
        found = site_config.observed(reading, previous, ce=short, at=at, by=by)
        self._note(short, found, previous, "problems" if found.problems else "read")
        return None

    async def _ask(self, short: str, away: NacreError | None) -> Reading:
        if away is not None:
            raise away
        return await ask(self._client, self._ces[short])

    def _note(self, short: str, found: SiteConfigObserved, previous: SiteConfigObserved | None, result: str) -> None:
        """Keep, count, and log what changed and what is wrong, each once."""
        name = self.name(short)
        self._read[short] = found
        self._readings.add(1, {"ce": short, "result": result})
        if previous is None and not found.unknown_because:
            told = (f"{name} {text} ({found.origins[name]})" for name, text in site_config.settings(found).items())
            log.info("%s: ALICE's site configuration: %s", name, ", ".join(told) or "none")
        for change in found.changes if found.changed_at == found.at else ():
            log.info("%s: ALICE's site configuration changed: %s", name, change)
        wrong = [*found.problems, *([f"not read: {found.unknown_because}"] if found.unknown_because else [])]
        said = self._said.get(short, [])
        for text in wrong:
            if text not in said:
                log.warning("%s: site configuration: %s", name, text)
        if said and not wrong:
            log.info("%s: site configuration: read, nothing wrong any more", name)
        self._said[short] = wrong

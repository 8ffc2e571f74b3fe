"""Polls for one CE: ask, say what it means, publish."""

import asyncio
import logging
import random
from datetime import datetime

import msgspec
from opentelemetry import metrics, trace

from libs.alice import failures
from libs.alice.answers import OPEN
from libs.alice.client import CentralServices
from libs.alice.site_map import site_map
from libs.bus.connection import Bus
from libs.events import subjects
from libs.events.messages import DemandObserved
from libs.runtime import clock
from libs.runtime.errors import NacreError
from libs.runtime.health import Health
from libs.runtime.site import Ce
from services.queue_poller import decide, settings
from services.queue_poller.site_config import SiteConfigs

log = logging.getLogger(__name__)


class Poller:
    """One CE with its own connection to the central services; `step` is one poll, `pause_s` says when the next is due.

    `wake` is set when so many job agents changed that the demand is worth another look. `configs` knows the CE as it
    is run, with ALICE's settings.
    """

    def __init__(
        self,
        short_name: str,
        client: CentralServices,
        configs: SiteConfigs,
        bus: Bus,
        *,
        interval_s: float,
        health: Health,
    ) -> None:
        self.wake = asyncio.Event()
        self._short_name = short_name
        self._interval_s = interval_s
        self._client = client
        self._configs = configs
        self._bus = bus
        self._health = health
        self._condition = f"central services for {short_name}"
        self._state = ""
        self._ttl_from = ""
        self._failures = 0
        self._changes = 0
        self._tracer = trace.get_tracer("nacre.queue_poller")
        meter = metrics.get_meter("nacre.queue_poller")
        self._polls = meter.create_counter("nacre_polls", description="polls of the central services, by result")
        self._waiting = meter.create_gauge("nacre_waiting_grid_jobs", description="grid jobs that wait for the CE")
        self._known_at = meter.create_gauge(
            "nacre_demand_known_timestamp",
            unit="s",
            description="instant of the last known demand; its age is now less it",
        )
        self._asked = meter.create_histogram("nacre_poll_duration", unit="s", description="time the answers took")

    async def step(self) -> None:
        """Ask and publish. Transient only when the bus is away."""
        started_s = clock.monotonic_s()
        self._changes = 0
        with self._tracer.start_as_current_span("poll", attributes={"nacre.ce": self._short_name}):
            observed = await self._observe()
            self._note(observed, clock.monotonic_s() - started_s)
            if self._failures:
                # Whatever changed meanwhile, a back-off is kept.
                self.wake.clear()
            await self._bus.publish(subjects.DEMAND_OBSERVED, self._short_name, observed)

    async def _observe(self) -> DemandObserved:
        # The instant before asking, so that the demand is never older than it says.
        at = clock.now()
        ce = self._as_run(at)
        try:
            observed = await self._ask(ce, at)
        except NacreError as error:
            observed = decide.unknown(self._short_name, at, self._bus.by, str(error), failures.kind(error))
        return msgspec.structs.replace(observed, server=self._client.server, asked_ttl_s=ce.ttl_s)

    async def _ask(self, ce: Ce, at: datetime) -> DemandObserved:
        asked = site_map(settings.facts(ce, self._configs.observed(self._short_name)))
        if ce.mode == "shadow":
            # Asking for free slots would write this host and version over those of the CE that runs.
            counted = await self._client.waiting_jobs(asked)
            return decide.shadow_demand(self._short_name, at, self._bus.by, ce.limits, counted)
        free = await self._client.free_slots(ce.host, ce.name)
        waiting = await self._client.waiting_jobs(asked) if free.code == OPEN else None
        return decide.demand(self._short_name, at, self._bus.by, free, waiting)

    def _as_run(self, now: datetime) -> Ce:
        """The CE with ALICE's settings; that something else decides its time to live now is logged."""
        found = self._configs.effective(self._short_name, now)
        ttl_from = found.origins["ttl_s"]
        if ttl_from != self._ttl_from:
            log.info("%s: time to live %d s (%s)", found.ce.name, found.ce.ttl_s, ttl_from)
        self._ttl_from = ttl_from
        return found.ce

    def _note(self, observed: DemandObserved, spent_s: float) -> None:
        """Count, show readiness, and log a change of state once."""
        is_known = not observed.unknown_because
        self._failures = 0 if is_known else self._failures + 1
        result = decide.result(observed)
        self._polls.add(1, {"ce": self._short_name, "result": result})
        self._asked.record(spent_s, {"ce": self._short_name})
        if observed.waiting is not None:
            self._waiting.set(observed.waiting, {"ce": self._short_name})
        if is_known:
            self._known_at.set(observed.at.timestamp(), {"ce": self._short_name})
            self._health.good(self._condition)
        else:
            self._health.bad(self._condition, observed.unknown_because)
        state = decide.state(observed)
        if state != self._state:
            level = logging.INFO if result == "known" else logging.WARNING
            log.log(level, "%s: %s", self._configs.name(self._short_name), state)
        self._state = state

    def pause_s(self) -> float:
        """How long after the start of the last poll the next one is due."""
        return decide.pause_s(self._interval_s, self._failures, random.random())

    def agent_changed(self) -> None:
        """A job agent of this CE changed."""
        self._changes += 1
        if decide.is_worth_asking(self._changes, self._failures):
            self.wake.set()

    def leave(self) -> None:
        """Another instance may poll from now on: this one says nothing of the central services any more."""
        self._health.over(self._condition)

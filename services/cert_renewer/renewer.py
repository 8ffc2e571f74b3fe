"""What all keepers have seen, told as one: on the bus, in metrics, in the log, and on /readyz."""

import asyncio
import logging
from collections import deque
from datetime import datetime

from opentelemetry import metrics, trace

from libs.bus.connection import Bus
from libs.events import subjects
from libs.events.messages import Credential, CredentialObserved, CredentialRenewed
from libs.runtime import clock
from libs.runtime.health import Health
from services.cert_renewer.decide import Alarm
from services.cert_renewer.keepers.keeper import Keeper

SCOPE = "site"
MOST_UNTOLD = 100
LONGEST_PAUSE_S = 86_400.0

log = logging.getLogger(__name__)


class Board:
    """The last look of every keeper. `changed` is set when there is something new to tell."""

    def __init__(self, bus: Bus, health: Health) -> None:
        self.changed = asyncio.Event()
        self._bus = bus
        self._health = health
        self._seen: dict[str, tuple[Credential, ...]] = {}
        self._said: dict[str, str] = {}
        self._untold: deque[CredentialRenewed] = deque(maxlen=MOST_UNTOLD)
        self._tracer = trace.get_tracer("nacre.cert_renewer")
        meter = metrics.get_meter("nacre.cert_renewer")
        self._days_left = meter.create_gauge("nacre_credential_days_left", description="days until the credential ends")
        self._alarm = meter.create_gauge(
            "nacre_credential_alarm", description="0 none, 1 notice, 2 warning, 3 critical: how near the end is"
        )
        self._problem = meter.create_gauge("nacre_credential_problem", description="1 when there is a problem, else 0")
        self._renewals = meter.create_counter("nacre_credential_renewals", description="new ones that took effect")

    def put(self, keeper: str, credentials: tuple[Credential, ...], renewed: tuple[Credential, ...]) -> None:
        """What a keeper has just seen."""
        for credential in credentials:
            self._say(credential)
        for credential in renewed:
            log.info("%s: a new one takes effect: %s", _name(credential), _until(credential))
            self._renewals.add(1, {"kind": credential.kind})
            self._untold.append(
                CredentialRenewed(
                    at=credential.checked_at,
                    by=self._bus.by,
                    kind=credential.kind,
                    name=credential.name,
                    source=credential.source,
                    subject=credential.subject,
                    not_after=credential.not_after,
                )
            )
        self._seen[keeper] = credentials
        self.changed.set()

    async def tell(self) -> None:
        """Publish what took effect and what there is. Transient when the bus is away: it is told later."""
        with self._tracer.start_as_current_span("credentials"):
            while self._untold:
                renewed = self._untold[0]
                # A host certificate and a token may take effect at one instant.
                msg_id = f"{renewed.kind}.{renewed.name}@{renewed.by}@{renewed.at.isoformat()}"
                await self._bus.publish(subjects.CREDENTIAL_RENEWED, SCOPE, renewed, msg_id=msg_id)
                self._untold.popleft()
            credentials = [credential for seen in self._seen.values() for credential in seen]
            if credentials:
                observed = CredentialObserved(at=clock.now(), by=self._bus.by, credentials=credentials)
                await self._bus.publish(subjects.CREDENTIAL_OBSERVED, SCOPE, observed)

    def close(self) -> None:
        """Another instance may watch from now on: nothing is said of what was seen."""
        for name in self._said:
            self._health.over(name)

    def _say(self, credential: Credential) -> None:
        """Readiness and metrics; one log line per change of what is wrong."""
        name = _name(credential)
        labels = {"kind": credential.kind, "name": credential.name}
        if credential.days_left is not None:
            self._days_left.set(credential.days_left, labels)
        self._alarm.set(Alarm[credential.alarm.upper()] if credential.alarm else Alarm.NONE, labels)
        self._problem.set(int(bool(credential.problem)), labels)
        if credential.problem:
            self._health.bad(name, credential.problem)
        else:
            self._health.good(name)
        words = "; ".join(word for word in (credential.problem, credential.alarm, credential.todo) if word)
        if words and words != self._said.get(name):
            log.warning("%s: %s", name, words)
        elif not words and self._said.get(name):
            log.info("%s: good again, %s", name, _until(credential))
        self._said[name] = words


class Loop:
    """One keeper's step, and when it wants to be looked at again."""

    def __init__(self, keeper: Keeper, board: Board, wakes: tuple[asyncio.Event, ...] = ()) -> None:
        self.wake = asyncio.Event()
        self.keeper = keeper
        self._board = board
        self._wakes = wakes
        self._again_at: datetime | None = None

    async def step(self) -> None:
        """Look once; wake who depends on what has taken effect."""
        looked = await self.keeper.look(clock.now())
        self._again_at = looked.again_at
        self._board.put(self.keeper.name, looked.credentials, looked.renewed)
        if looked.renewed:
            for wake in self._wakes:
                wake.set()

    def pause_s(self) -> float:
        """From now until the keeper wants to be looked at, should that be before its interval is over.

        What was due already was tried just now: the interval is soon enough for it.
        """
        now = clock.now()
        if self._again_at is None or self._again_at <= now:
            return LONGEST_PAUSE_S
        return (self._again_at - now).total_seconds()


def _name(credential: Credential) -> str:
    return f"{credential.kind} {credential.name}".strip()


def _until(credential: Credential) -> str:
    if credential.not_after is None:
        return credential.subject
    return f"{credential.subject} until {credential.not_after:%Y-%m-%d %H:%M} UTC".strip()

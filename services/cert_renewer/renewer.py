"""Looks at every credential, makes the job-agent token anew when due, and tells."""

import asyncio
import logging
from collections import deque
from datetime import datetime

from cryptography import x509
from opentelemetry import metrics, trace

from libs.alice.client import CentralServices
from libs.alice.identity import alice_dn
from libs.bus.connection import Bus
from libs.events import subjects
from libs.events.messages import Credential, CredentialObserved, CredentialRenewed
from libs.runtime import clock
from libs.runtime.errors import NacreError
from libs.runtime.health import Health
from libs.runtime.site import Site
from services.cert_renewer import decide, sources, token_file
from services.cert_renewer.decide import Action, Seen

SCOPE = "site"
HOST = "host_certificate"
TOKEN = "job_agent_token"
CLIENT = "superfacility_client"
MOST_UNTOLD = 100

log = logging.getLogger(__name__)


class Renewer:
    """The credentials of one site; `step` is one look. `wake` is set when a token is due before the next look."""

    def __init__(self, site: Site, client: CentralServices, bus: Bus, health: Health) -> None:
        self.wake = asyncio.Event()
        self._site = site
        self._client = client
        self._bus = bus
        self._health = health
        self._host_in_effect: str | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._tried_at: datetime | None = None
        self._failures = 0
        self._trouble = ""
        self._said: dict[str, str] = {}
        self._untold: deque[CredentialRenewed] = deque(maxlen=MOST_UNTOLD)
        self._tracer = trace.get_tracer("nacre.cert_renewer")
        meter = metrics.get_meter("nacre.cert_renewer")
        self._days_left = meter.create_gauge("nacre_credential_days_left", description="days until the credential ends")
        self._tokens = meter.create_counter("nacre_token_requests", description="job-agent tokens asked for, by result")

    async def step(self) -> None:
        """Look, reload, renew, tell. Transient only when the bus is away; files and central services are reported."""
        now = clock.now()
        host = await asyncio.to_thread(sources.host_certificate, self._site.credentials.host_certificate_directory)
        observed = [self._host(host, now)]
        await self._take_host(host, observed[0], now)
        observed.append(await self._token(now))
        for name, machine in self._site.machine.items():
            if machine.client_key_file is None:
                continue
            problem = await asyncio.to_thread(sources.client_problem, machine)
            observed.append(
                Credential(kind=CLIENT, source=f"{name}: {machine.client_key_file}", checked_at=now, problem=problem)
            )
        for credential in observed:
            self._say(credential)
        with self._tracer.start_as_current_span("credentials"):
            await self._tell(observed, now)

    def close(self) -> None:
        """Another instance may watch from now on: no timer is left, and nothing is said of what was seen."""
        if self._timer is not None:
            self._timer.cancel()
        for name in self._said:
            self._health.over(name)

    def _host(self, host: sources.HostCertificate, now: datetime) -> Credential:
        source = str(self._site.credentials.host_certificate_directory)
        if host.certificate is None:
            return Credential(kind=HOST, source=source, checked_at=now, problem=host.problem)
        return _described(HOST, source, host.certificate, now, problem=host.problem)

    async def _take_host(self, host: sources.HostCertificate, seen: Credential, now: datetime) -> None:
        """Let a new, good host certificate take effect: the next connection reads it, and a token is made with it."""
        if self._host_in_effect is None:
            self._host_in_effect = host.fingerprint
        is_new = host.fingerprint != self._host_in_effect
        if decide.decide(_seen(seen, is_new=is_new), now) is not Action.RELOAD:
            return
        log.info("a new host certificate takes effect: %s, %.1f days left", seen.subject, seen.days_left or 0)
        await self._client.close()
        self._tried_at, self._failures = None, 0
        self._remember(seen, now)
        self._host_in_effect = host.fingerprint

    async def _token(self, now: datetime) -> Credential:
        """The token in the file, after making it anew when due."""
        path = self._site.credentials.token_file
        certificate = await asyncio.to_thread(token_file.read, path)
        due_at = self._due_at(certificate) or now
        seen = Seen() if certificate is None else _seen(_described(TOKEN, str(path), certificate, now))
        if decide.decide(Seen(seen.problem, seen.not_before, seen.not_after, due_at=due_at), now) is Action.RENEW:
            certificate = await self._renew(now) or certificate
        self._wake_at(self._due_at(certificate) or now, now)
        if certificate is None:
            problem = self._trouble or f"no token in {path} yet"
            return Credential(kind=TOKEN, source=str(path), checked_at=now, problem=problem)
        return _described(TOKEN, str(path), certificate, now, problem=self._trouble)

    def _due_at(self, certificate: x509.Certificate | None) -> datetime | None:
        if certificate is None and not self._failures:
            return None
        return decide.due_at(
            self._tried_at,
            self._failures,
            self._site.credentials.token_refresh_s,
            not_before=certificate.not_valid_before_utc if certificate else None,
            not_after=certificate.not_valid_after_utc if certificate else None,
        )

    async def _renew(self, now: datetime) -> x509.Certificate | None:
        """Ask for a token and write it; None when that failed, and the old file stays."""
        settings = self._site.credentials
        self._tried_at = now
        try:
            token = token_file.checked(await self._client.job_agent_token(settings.token_days), now)
            await asyncio.to_thread(token_file.write, settings.token_file, token)
        except NacreError as error:
            self._failures += 1
            self._trouble = f"not renewed: {error}"
            self._tokens.add(1, {"result": "failed"})
            return None
        self._failures, self._trouble = 0, ""
        self._tokens.add(1, {"result": "renewed"})
        self._remember(_described(TOKEN, str(settings.token_file), token.certificate, now), now)
        return token.certificate

    def _wake_at(self, due_at: datetime, now: datetime) -> None:
        """Come round for the token even when the next look is later."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(max(0.0, (due_at - now).total_seconds()), self.wake.set)

    def _remember(self, credential: Credential, now: datetime) -> None:
        self._untold.append(
            CredentialRenewed(
                at=now,
                by=self._bus.by,
                kind=credential.kind,
                source=credential.source,
                subject=credential.subject,
                not_after=credential.not_after,
            )
        )

    def _say(self, credential: Credential) -> None:
        """Readiness and days left; one log line per change of what is wrong."""
        name = f"{credential.kind} {credential.source}"
        if credential.days_left is not None:
            self._days_left.set(credential.days_left, {"kind": credential.kind})
        if credential.problem:
            self._health.bad(name, credential.problem)
        else:
            self._health.good(name)
        words = credential.problem
        if decide.decide(_seen(credential), credential.checked_at) is Action.ALARM and not words:
            words = f"ends {credential.not_after:%Y-%m-%d %H:%M} UTC; renew it now"
        if words and words != self._said.get(name):
            log.warning("%s: %s", name, words)
        elif not words and self._said.get(name):
            log.info("%s: good again", name)
        self._said[name] = words

    async def _tell(self, observed: list[Credential], now: datetime) -> None:
        while self._untold:
            await self._bus.publish(
                subjects.CREDENTIAL_RENEWED, SCOPE, self._untold[0], msg_id=_msg_id(self._untold[0])
            )
            self._untold.popleft()
        message = CredentialObserved(at=now, by=self._bus.by, credentials=observed)
        await self._bus.publish(subjects.CREDENTIAL_OBSERVED, SCOPE, message)


def _msg_id(renewed: CredentialRenewed) -> str:
    """A host certificate and a token may take effect at one instant."""
    return f"{renewed.kind}@{renewed.by}@{renewed.at.isoformat()}"


def _seen(credential: Credential, *, is_new: bool = False) -> Seen:
    return Seen(credential.problem, credential.not_before, credential.not_after, is_new=is_new)


def _described(
    kind: str, source: str, certificate: x509.Certificate, now: datetime, *, problem: str = ""
) -> Credential:
    not_before, not_after = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return Credential(
        kind=kind,
        source=source,
        checked_at=now,
        subject=alice_dn(certificate.subject),
        issuer=alice_dn(certificate.issuer),
        not_before=not_before,
        not_after=not_after,
        days_left=decide.days_left(not_after, now),
        problem=decide.validity(not_before, not_after, now) or problem,
    )

"""The job agents' token: asked for often, so that agents that waited long in the queue find a fresh one at start."""

from datetime import datetime

from cryptography import x509
from opentelemetry import metrics

from libs.alice.client import CentralServices
from libs.alice.identity import CurrentIdentity, Loaded, alice_dn
from libs.events.messages import Credential
from libs.runtime.errors import NacreError
from libs.runtime.site import Credentials
from services.cert_renewer import decide, token_file
from services.cert_renewer.decide import Action, Seen
from services.cert_renewer.destination import Destination
from services.cert_renewer.keepers.keeper import TOKEN, Looked, told

WHO_MUST = "the operator must mend what `problem` says (job agents that find no fresh token end at their start)"


class TokenKeeper:
    """Keeps the token file fresh. No other process asks for job-agent tokens."""

    name = "job-agent token"
    longest_look_s = 600.0

    def __init__(
        self, settings: Credentials, client: CentralServices, current: CurrentIdentity, destination: Destination
    ) -> None:
        self._settings = settings
        self._client = client
        self._current = current
        self._destination = destination
        self._file = settings.token_file.name
        self._asked_as: Loaded | None = None
        self._made: x509.Certificate | None = None
        self._tried_at: datetime | None = None
        self._failures = 0
        self._trouble = ""
        meter = metrics.get_meter("nacre.cert_renewer")
        self._requests = meter.create_counter(
            "nacre_token_requests", description="job-agent tokens asked for, by result"
        )

    async def look(self, now: datetime) -> Looked:
        """Ask for a token when one is due, or when the host certificate is another one; write it."""
        found, trouble = None, ""
        try:
            found = await self._found()
            if await self._current.now() is not self._asked_as:
                self._tried_at, self._failures = None, 0
        except NacreError as error:
            trouble = str(error)
        made = None
        if decide.decide(Seen(due_at=self._due_at(found, now)), now) is Action.RENEW:
            made = await self._renew(now)
            trouble = ""
        row = self._row(made or found, self._trouble or trouble, now)
        return Looked((row,), renewed=(row,) if made else (), again_at=self._due_at(made or found, now))

    async def _found(self) -> x509.Certificate | None:
        """The token in effect; None when there is none, or it cannot be read."""
        content = await self._destination.found(self._file)
        return self._made if content is None else token_file.certificate_in(content)

    def _due_at(self, found: x509.Certificate | None, now: datetime) -> datetime:
        if found is None and not self._failures:
            return now
        due_at = decide.token_due_at(
            self._tried_at,
            self._failures,
            self._settings.token_refresh_s,
            not_before=found.not_valid_before_utc if found else None,
            not_after=found.not_valid_after_utc if found else None,
        )
        return due_at or now

    async def _renew(self, now: datetime) -> x509.Certificate | None:
        """Ask for a token and write it; None when that failed, and the old file stays."""
        self._tried_at = now
        try:
            self._asked_as = await self._current.now()
            token = token_file.checked(await self._client.job_agent_token(self._settings.token_days), now)
            await self._destination.put(self._file, token.content)
        except NacreError as error:
            self._failures += 1
            self._trouble = f"not renewed: {error}"
            self._requests.add(1, {"result": "failed"})
            return None
        self._made = token.certificate
        self._failures, self._trouble = 0, ""
        self._requests.add(1, {"result": "renewed"})
        return token.certificate

    def _row(self, certificate: x509.Certificate | None, trouble: str, now: datetime) -> Credential:
        place = self._destination.place(self._file)
        if certificate is None:
            problem = trouble or f"no token in {place} yet"
            return told(Credential(kind=TOKEN, source=place, checked_at=now, problem=problem), WHO_MUST)
        row = Credential(
            kind=TOKEN,
            source=place,
            checked_at=now,
            subject=alice_dn(certificate.subject),
            issuer=alice_dn(certificate.issuer),
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
            problem=trouble,
            renews_at=self._due_at(certificate, now),
        )
        return told(row, WHO_MUST)

"""The host certificate: what the source offers is checked, and only then installed where its holders read it."""

import logging
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from libs.alice.identity import alice_dn
from libs.events.messages import Credential
from libs.runtime import versions
from libs.runtime.errors import Misconfigured, NacreError, RateLimited, Unreachable
from libs.runtime.file_work import FileWork
from libs.runtime.secret_file import read_secret
from libs.runtime.site.credentials import HostCertificate
from services.cert_renewer import checks, decide
from services.cert_renewer.checks import Pair, Wanted
from services.cert_renewer.decide import Action, Seen
from services.cert_renewer.keepers.keeper import HOST, Looked, told
from services.cert_renewer.sources.source import Source
from services.cert_renewer.sources.watched import read_pair

MOST_ANCHORS = 1000
ANCHOR_SUFFIXES = (".pem", ".crt", ".der", ".0", ".1", ".2")
CERTIFICATE_MODE, KEY_MODE = 0o444, 0o400
# An authority that issues what we cannot take would do so again, and count it against us.
UNFIT_RETRY_S = 6 * 3600.0
CHECK_INSTALLED_EVERY = timedelta(hours=1)
LONGEST_HOLD = timedelta(days=1)

log = logging.getLogger(__name__)


class HostKeeper:
    """Keeps `directory` (versions of certificate and key under the holders' `names`) in force.

    One look takes at most as long as an order from an authority.
    """

    name = "host certificate"

    def __init__(
        self,
        settings: HostCertificate,
        anchors: Path,
        directory: Path,
        names: tuple[str, str],
        source: Source,
        *,
        longest_look_s: float = 120.0,
    ) -> None:
        self.longest_look_s = longest_look_s
        self._settings = settings
        self._anchors = anchors
        self._directory = directory
        self._names = names
        self._source = source
        self._files = FileWork(f"installed host certificate: {directory}")
        self._in_effect: str | None = None
        self._checked: tuple[str, datetime, str] | None = None
        # Made for us, and valid only from an instant that is near: an authority's clock need not be ours.
        self._held: Pair | None = None
        self._again_at: datetime | None = None
        self._failures = 0

    async def look(self, now: datetime) -> Looked:
        """Read what is installed, ask the source, check, install."""
        trouble = wrong = ""
        try:
            installed = await self._files.run(self._installed)
            wrong = await self._wrong_with(installed, now) if installed else ""
        except Unreachable as error:
            return Looked((self._row(None, str(error), now),))
        except NacreError as error:
            # What is installed cannot be used: the source may have what mends it.
            installed, wrong = None, str(error)
        if self._in_effect is None:
            self._in_effect = installed.fingerprint if installed else ""
        try:
            offered = await self._offered(installed, now)
        except NacreError as error:
            offered, trouble = None, self._failed(error, installed, now)
        if offered is not None and (installed is None or offered.fingerprint != installed.fingerprint):
            trouble = await self._take(offered, installed, now)
            if not trouble:
                installed, wrong = offered, ""
        elif offered is not None:
            await self._taken()
        return self._looked(installed, "; ".join(words for words in (wrong, trouble) if words), now)

    def _installed(self) -> Pair | None:
        if not versions.in_effect(self._directory):
            return None
        return read_pair(self._directory / versions.CURRENT, self._names)

    async def _wrong_with(self, installed: Pair, now: datetime) -> str:
        """What an hourly check of the installed pair says: its authorities end, too, and the site file may change."""
        if self._checked is None or self._checked[0] != installed.fingerprint or now >= self._checked[1]:
            try:
                wanted = await self._files.run(lambda: self._wanted(None))
            except NacreError as error:
                return str(error)
            found = checks.problem(installed, wanted, now)
            self._checked = (installed.fingerprint, now + CHECK_INSTALLED_EVERY, found)
        return self._checked[2] and f"the installed one: {self._checked[2]}"

    async def _offered(self, installed: Pair | None, now: datetime) -> Pair | None:
        if self._held is not None:
            return self._held
        due_at = self._due_at(installed, now)
        action = decide.decide(Seen(due_at=due_at), now)
        return await self._source.offered(now, due=action is Action.RENEW, installed=installed)

    def _due_at(self, installed: Pair | None, now: datetime) -> datetime | None:
        """When to ask the source for the next; None when it needs no asking."""
        if not self._source.makes:
            return None
        if self._again_at is not None:
            return self._again_at
        return now if installed is None else decide.renew_at(installed.leaf.not_valid_before_utc, installed.not_after)

    def _failed(self, error: NacreError, installed: Pair | None, now: datetime, *, at_least_s: float = 0.0) -> str:
        """Remember when to ask again; what to say."""
        self._failures += 1
        told_s = error.retry_after_s if isinstance(error, RateLimited) else None
        end = installed.not_after if installed else None
        self._again_at = decide.retry_at(now, self._failures, end, max(told_s or 0.0, at_least_s))
        return f"the next one is not there: {error}"

    async def _take(self, offered: Pair, installed: Pair | None, now: datetime) -> str:
        """Install it if it is fit; why not, else empty."""
        try:
            wanted = await self._files.run(lambda: self._wanted(installed))
            problem = checks.problem(offered, wanted, now)
            if decide.decide(Seen(problem, is_new=True), now) is Action.RELOAD:
                await self._files.run(lambda: self._install(offered, now))
        except NacreError as error:
            self._failed(error, installed, now)
            return f"the new one from {offered.source} is not installed: {error}"
        begins_at = offered.leaf.not_valid_before_utc
        is_early = problem and self._source.makes and now < begins_at <= now + LONGEST_HOLD
        if is_early and not checks.problem(offered, wanted, begins_at):
            self._held, self._again_at = offered, begins_at
            return f"the new one from {offered.source} is taken when it begins: {problem}"
        self._held = None
        if problem:
            self._failed(Misconfigured(problem), installed, now, at_least_s=UNFIT_RETRY_S if self._source.makes else 0)
            return f"the new one from {offered.source} is not taken: {problem}"
        self._failures, self._again_at = 0, None
        await self._taken()
        return ""

    async def _taken(self) -> None:
        try:
            await self._source.taken()
        except NacreError as error:
            log.warning("the request of a host certificate that is installed stays behind: %s", error)

    def _wanted(self, installed: Pair | None) -> Wanted:
        settings = self._settings
        return Wanted(
            anchors=read_anchors(self._anchors),
            anchors_from=str(self._anchors),
            dn=settings.dn or (alice_dn(installed.leaf.subject) if installed else ""),
            names=tuple(settings.names),
            server_auth=settings.server_auth,
        )

    def _install(self, pair: Pair, now: datetime) -> None:
        certificate, key = self._names
        files = {
            certificate: versions.File(pair.chain_pem, CERTIFICATE_MODE),
            key: versions.File(pair.key_pem, KEY_MODE),
        }
        versions.install(self._directory, files, now)

    def _looked(self, installed: Pair | None, trouble: str, now: datetime) -> Looked:
        if installed is None:
            problem = trouble or f"none is installed yet, and {self._source.place} has none to offer"
            return Looked((self._row(None, problem, now),), again_at=self._again_at)
        row = self._row(installed, trouble, now)
        was, self._in_effect = self._in_effect, installed.fingerprint
        return Looked((row,), renewed=(row,) if was != installed.fingerprint else (), again_at=row.renews_at)

    def _row(self, installed: Pair | None, problem: str, now: datetime) -> Credential:
        row = Credential(kind=HOST, source=self._source.place, checked_at=now, problem=problem)
        if installed is not None:
            row = msgspec.structs.replace(
                row,
                subject=alice_dn(installed.leaf.subject),
                issuer=alice_dn(installed.leaf.issuer),
                not_before=installed.leaf.not_valid_before_utc,
                not_after=installed.not_after,
                renews_at=self._due_at(installed, now),
            )
        return told(row, self._source.todo)


def read_anchors(path: Path) -> tuple[x509.Certificate, ...]:
    """Trust anchors out of a PEM file, or of a directory of PEM or DER files. Misconfigured when there are none."""
    files = sorted(one for one in path.iterdir() if one.suffix in ANCHOR_SUFFIXES) if path.is_dir() else [path]
    found: dict[bytes, x509.Certificate] = {}
    for file in files[:MOST_ANCHORS]:
        content = read_secret(file, "trust anchors")
        try:
            is_pem = b"-----BEGIN" in content
            read = x509.load_pem_x509_certificates(content) if is_pem else [x509.load_der_x509_certificate(content)]
        except ValueError:
            log.debug("trust anchors: %s is passed over, it holds no certificate", file)
            continue
        found |= {one.public_bytes(Encoding.DER): one for one in read}
    if not found:
        raise Misconfigured(f"trust anchors: {path} holds no certificate")
    return tuple(found.values())

"""The Superfacility client: looked at often, tried now and then, its end asked for. Only a person makes a new one."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from libs.events.messages import Credential
from libs.runtime import secret_file
from libs.runtime.errors import Misconfigured, NacreError, Transient
from libs.runtime.file_work import FileWork
from libs.runtime.secret_file import Stamp
from libs.runtime.site import Site
from libs.slurm.tried_client import TriedClient
from services.cert_renewer import decide
from services.cert_renewer.apart import process
from services.cert_renewer.apart.work import FACILITY, Trial
from services.cert_renewer.keepers.keeper import ACCESS_TOKEN, CLIENT, Looked, told

TRY_AGAIN = timedelta(seconds=60)
TRIAL_WITHIN_S = 200.0


class ApiClientKeeper:
    """Watches one machine's client. Whoever uses it takes another one up by itself (libs/slurm/access.py)."""

    longest_look_s = 300.0

    def __init__(self, site: Site, machine: str, id_file: Path, key_file: Path) -> None:
        table = site.machine[machine]
        self.name = f"Superfacility client {machine}"
        self._site = site
        self._machine = machine
        self._id_file = id_file
        self._key_file = key_file
        self._token_url = table.token_url
        self._check_interval = timedelta(seconds=site.credentials.client_check_interval_s)
        self._files = FileWork(self.name)
        self._stamp: Stamp = ()
        self._placed_at: datetime | None = None
        self._known: TriedClient | None = None
        self._trouble = ""
        self._try_at: datetime | None = None
        self._todo = (
            f"only a person can renew it: the operator makes a client in Iris for {table.user}, of the level that may "
            "submit, for the addresses that we come from, and installs it "
            f"(nacre credentials install-client {machine})"
        )

    async def look(self, now: datetime) -> Looked:
        """Read the files' modes and stamps; try the client when it is another one, or when its time has come."""
        careless = ""
        renewed = False
        try:
            stamp = await self._files.run(lambda: secret_file.stamp((self._id_file, self._key_file)))
            careless = await self._files.run(self._carelessness)
            if stamp != self._stamp or self._try_at is None or now >= self._try_at:
                renewed = await self._try(stamp, now)
        except NacreError as error:
            self._trouble = str(error)
            self._try_at = now + TRY_AGAIN
        rows = self._rows(self._trouble or careless, now)
        return Looked(rows, renewed=rows[:1] if renewed else (), again_at=self._try_at)

    def _carelessness(self) -> str:
        """Whether everyone may read the key, with how to mend it."""
        try:
            secret_file.read_secret(self._key_file, "Superfacility API key", private=True)
        except Misconfigured as error:
            return str(error)
        return ""

    async def _try(self, stamp: Stamp, now: datetime) -> bool:
        """Buy a token and ask for the client's end; True when it is another client than before."""
        self._stamp = stamp
        self._try_at = now + TRY_AGAIN
        try:
            trial = Trial(self._site, self._machine)
            known = await process.made(FACILITY, trial, TriedClient, within_s=TRIAL_WITHIN_S, what=self.name)
        except Transient as error:
            self._trouble = f"it could not be tried: {error}"
            return False
        except NacreError as error:
            self._trouble = f"it does not serve: {error}"
            return False
        was, self._known = self._known, known
        self._placed_at = min(now, datetime.fromtimestamp(stamp[0][2] / 1e9, UTC))
        self._try_at = now + self._check_interval
        self._trouble = f"its end is not known: {known.unknown_because}" if known.unknown_because else ""
        return was is not None and was.client_id != known.client_id

    def _rows(self, problem: str, now: datetime) -> tuple[Credential, ...]:
        known = self._known
        row = Credential(
            kind=CLIENT,
            name=self._machine,
            source=str(self._id_file),
            checked_at=now,
            issuer=self._token_url,
            problem=problem,
        )
        if known is None:
            return (told(row, self._todo),)
        row = msgspec.structs.replace(
            row, subject=f"{known.name} {known.client_id}".strip(), not_before=self._placed_at, not_after=known.ends_at
        )
        # Each process buys its own and replaces it in time; this one only shows that tokens are sold: it never alarms.
        token = Credential(
            kind=ACCESS_TOKEN,
            name=self._machine,
            source=self._token_url,
            checked_at=now,
            subject=row.subject,
            issuer=self._token_url,
            not_before=known.token_bought_at,
            not_after=known.token_ends_at,
            days_left=decide.days_left(known.token_ends_at, now),
            renews_at=self._try_at,
        )
        return told(row, self._todo), token

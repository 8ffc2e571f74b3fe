"""The Superfacility client: looked at often, tried now and then, its end asked for. Only a person makes a new one."""

from datetime import UTC, datetime, timedelta

import msgspec

from libs.events.messages import Credential
from libs.runtime.errors import Misconfigured, NacreError, Transient
from libs.runtime.file_work import FileWork
from libs.runtime.secret_file import Stamp, read_secret
from libs.slurm import account
from libs.slurm.account import TriedClient
from libs.slurm.superfacility import Endpoint
from services.cert_renewer import decide
from services.cert_renewer.keepers.keeper import ACCESS_TOKEN, CLIENT, Looked, told

TRY_AGAIN = timedelta(seconds=60)


class ApiClientKeeper:
    """Watches one machine's client. Whoever uses it takes another one up by itself (libs/slurm/access.py)."""

    longest_look_s = 300.0

    def __init__(self, endpoint: Endpoint, user: str, check_interval_s: float) -> None:
        self.name = f"Superfacility client {endpoint.machine}"
        self._endpoint = endpoint
        self._check_interval = timedelta(seconds=check_interval_s)
        self._files = FileWork(self.name)
        self._stamp: Stamp = ()
        self._placed_at: datetime | None = None
        self._known: TriedClient | None = None
        self._trouble = ""
        self._try_at: datetime | None = None
        self._todo = (
            f"only a person can renew it: the operator makes a client in Iris for {user}, of the level that may "
            "submit, for the addresses that we come from, and installs it "
            f"(nacre credentials install-client {endpoint.machine})"
        )

    async def look(self, now: datetime) -> Looked:
        """Read the files' modes and stamps; try the client when it is another one, or when its time has come."""
        careless = ""
        renewed = False
        try:
            stamp = await self._files.run(self._endpoint.key.stamp)
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
            read_secret(self._endpoint.key.client_key_file, "Superfacility API key", private=True)
        except Misconfigured as error:
            return str(error)
        return ""

    async def _try(self, stamp: Stamp, now: datetime) -> bool:
        """Buy a token and ask for the client's end; True when it is another client than before."""
        self._stamp = stamp
        self._try_at = now + TRY_AGAIN
        try:
            known = await account.tried(self._endpoint)
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
        endpoint, known = self._endpoint, self._known
        row = Credential(
            kind=CLIENT,
            name=endpoint.machine,
            source=str(endpoint.key.client_id_file),
            checked_at=now,
            issuer=endpoint.token_url,
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
            name=endpoint.machine,
            source=endpoint.token_url,
            checked_at=now,
            subject=row.subject,
            issuer=endpoint.token_url,
            not_before=known.token_bought_at,
            not_after=known.token_ends_at,
            days_left=decide.days_left(known.token_ends_at, now),
            renews_at=self._try_at,
        )
        return told(row, self._todo), token

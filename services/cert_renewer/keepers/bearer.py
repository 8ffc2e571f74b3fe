"""The edge relays' bearers, one for each machine: signed here, beside the token file (libs/runtime/bearer.py)."""

from datetime import datetime, timedelta
from pathlib import PurePosixPath

from libs.events.messages import Credential
from libs.runtime import bearer
from libs.runtime.errors import NacreError
from libs.runtime.file_work import FileWork
from libs.runtime.secret_file import Stamp, read_secret, stamp
from libs.runtime.site.monitoring import Edge
from services.cert_renewer import decide
from services.cert_renewer.decide import Action, Seen
from services.cert_renewer.destination import Destination
from services.cert_renewer.keepers.keeper import BEARER, Looked, told

WHO_MUST = "the operator must mend what `problem` says (edge relays cannot hand in what worker nodes report)"


class BearerKeeper:
    """Keeps one machine's bearer fresh, and follows its key when that is another one."""

    longest_look_s = 60.0

    def __init__(self, edge: Edge, machine: str, refresh_s: float, destination: Destination) -> None:
        self.name = f"edge bearer {machine}"
        self._edge = edge
        self._machine = machine
        self._refresh_s = refresh_s
        self._destination = destination
        self._file = PurePosixPath(edge.bearer_file_of(machine)).name
        self._key_file = FileWork(f"bearer key {edge.bearer_key_file}")
        self._key_stamp: Stamp = ()
        self._signed_at: datetime | None = None
        self._tried_at: datetime | None = None
        self._failures = 0
        self._trouble = ""

    async def look(self, now: datetime) -> Looked:
        """Sign a new one when it is due, or when the key is another one; write it."""
        trouble = ""
        try:
            if await self._key_file.run(lambda: stamp((self._edge.bearer_key_file,))) != self._key_stamp:
                self._tried_at, self._failures = None, 0
            elif await self._destination.found(self._file) == b"":
                self._tried_at = None
        except NacreError as error:
            trouble = str(error)
        was = self._signed_at
        if decide.decide(Seen(due_at=self._due_at(now)), now) is Action.RENEW:
            await self._renew(now)
            trouble = ""
        row = self._row(self._trouble or trouble, now)
        return Looked((row,), renewed=(row,) if self._signed_at != was else (), again_at=self._due_at(now))

    def _due_at(self, now: datetime) -> datetime:
        ends_at = self._signed_at and self._signed_at + timedelta(seconds=self._edge.bearer_s)
        due_at = decide.token_due_at(
            self._tried_at, self._failures, self._refresh_s, not_before=self._signed_at, not_after=ends_at
        )
        return due_at or now

    async def _renew(self, now: datetime) -> None:
        self._tried_at = now
        try:
            path = self._edge.bearer_key_file
            self._key_stamp = await self._key_file.run(lambda: stamp((path,)))
            key = await self._key_file.run(lambda: read_secret(path, "bearer key", private=True))
            signed = bearer.sign(key, self._machine, now + timedelta(seconds=self._edge.bearer_s))
            await self._destination.put(self._file, f"{signed}\n".encode())
        except NacreError as error:
            self._failures += 1
            self._trouble = f"not renewed: {error}"
            return
        self._signed_at = now
        self._failures, self._trouble = 0, ""

    def _row(self, trouble: str, now: datetime) -> Credential:
        row = Credential(
            kind=BEARER,
            name=self._machine,
            source=self._destination.place(self._file),
            checked_at=now,
            problem=trouble,
            not_before=self._signed_at,
            not_after=self._signed_at and self._signed_at + timedelta(seconds=self._edge.bearer_s),
            renews_at=self._due_at(now),
        )
        return told(row, WHO_MUST)

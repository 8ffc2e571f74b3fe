"""What a source of host certificates is."""

from datetime import datetime
from typing import Protocol

from services.cert_renewer.checks import Pair


class Source(Protocol):
    """Where the next host certificate comes from."""

    # True: it is asked for when due; False: somebody else renews, and it is looked for at every look.
    makes: bool
    # Its place, as `credential.observed` shows it.
    place: str
    # Who renews, as a sentence of the alarm: "{who} before {instant}".
    todo: str

    async def offered(self, now: datetime, *, due: bool, installed: Pair | None) -> Pair | None:
        """The pair that it has to offer, unchecked; None while there is none. A NacreError says why it has none."""

    async def taken(self) -> None:
        """What was offered is installed."""

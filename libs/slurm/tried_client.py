"""What is known of an API client once it was tried (account.py)."""

from datetime import datetime

import msgspec


class TriedClient(msgspec.Struct, frozen=True, kw_only=True):
    """An API client that has just bought an access token.

    `ends_at` is None when the facility did not say it; `unknown_because` then says why.
    """

    client_id: str
    name: str = ""
    token_bought_at: datetime
    token_ends_at: datetime
    ends_at: datetime | None = None
    unknown_because: str = ""

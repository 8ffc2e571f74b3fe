"""Leases."""

from datetime import datetime

import msgspec


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds a lease. `token` is random, so that a holder knows its own write after a lost answer."""

    holder: str
    token: str
    since: datetime

"""One supercomputer, behind a web API or with commands of its own."""

from pathlib import Path
from typing import Literal

from libs.runtime.site.kinds import Positive, Seconds, Share, Table


class Machine(Table, frozen=True, kw_only=True):
    """One supercomputer. `flavour` is the way to its batch queue: `jobs`, the Superfacility API's jobs endpoints (and,
    while these fail, its commands); `command`, commands in a login shell by that API; `local`, commands of this
    machine, which need no API, no client and no token.

    `settle_time_s`: how long a POST may still be executed late; `listing_lag_s`: how long an accepted batch job may be
    absent from listings. `missing_share`: the share of the active agents that may be missing from one listing at once
    before it counts as incomplete. `max_array_size` is Slurm's MaxArraySize. `requests_per_s` is the API's limit for
    our client, shared out over our processes.
    """

    flavour: Literal["jobs", "command", "local"] = "jobs"
    api_url: str = "https://api.nersc.gov/api/v1.2"
    token_url: str = "https://oidc.nersc.gov/c2id/token"
    client_id_file: Path | None = None
    client_key_file: Path | None = None
    user: str
    time_zone: str = "America/Los_Angeles"
    requests_per_s: Seconds = 2.0
    concurrency: Positive = 4
    listing_interval_s: Seconds = 60.0
    listing_floor_s: Seconds = 5.0
    listing_rows_limit: Positive = 20000
    max_array_size: Positive = 1001
    facility_interval_s: Seconds = 300.0
    settle_time_s: Seconds = 600.0
    listing_lag_s: Seconds = 120.0
    missing_share: Share = 0.2

"""What the tracker takes from the site file."""

from collections.abc import Mapping

import msgspec

from libs.runtime.site import Site

# Of the API's one rate: the other half is the submitter's.
SHARE_OF_THE_RATE = 0.5


class Watch(msgspec.Struct, frozen=True, kw_only=True):
    """One machine to watch, for these CEs (short names). Times and the share as in `site.Machine`."""

    machine: str
    ces: frozenset[str]
    user: str
    listing_interval_s: float
    listing_floor_s: float
    facility_interval_s: float
    settle_time_s: float
    listing_lag_s: float
    missing_share: float


def watches(site: Site) -> Mapping[str, Watch]:
    """Each machine that some CE feeds."""
    found = {}
    for machine in sorted({ce.machine for ce in site.ce.values()}):
        table = site.machine[machine]
        found[machine] = Watch(
            machine=machine,
            ces=frozenset(short for short, ce in site.ce.items() if ce.machine == machine),
            user=table.user,
            listing_interval_s=table.listing_interval_s,
            listing_floor_s=table.listing_floor_s,
            facility_interval_s=table.facility_interval_s,
            settle_time_s=table.settle_time_s,
            listing_lag_s=table.listing_lag_s,
            missing_share=table.missing_share,
        )
    return found

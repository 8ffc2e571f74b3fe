"""What the tracker takes from the site file."""

from collections.abc import Mapping

import msgspec

from libs.runtime.site import Site
from services.status_tracker.rules.cadence import Pace

# Of the API's one rate: the other half is the submitter's.
SHARE_OF_THE_RATE = 0.5
# While agents start or end we look four times as often as usual, and a third as often when there is nothing.
QUICKER, SLOWER = 4.0, 3.0
# Whoever waits for a listing must not find it too old because we were slow.
OF_THE_MAXIMUM_AGE = 0.5


class Output(msgspec.Struct, frozen=True):
    """Where a CE's batch jobs write: sbatch's `-o` and `-D`."""

    pattern: str
    directory: str


class Watch(msgspec.Struct, frozen=True, kw_only=True):
    """One machine to watch, for these CEs (short names). Times and the share as in `site.Machine`."""

    machine: str
    ces: frozenset[str]
    user: str
    pace: Pace
    listing_floor_s: float
    facility_interval_s: float
    settle_time_s: float
    listing_lag_s: float
    missing_share: float
    outputs: Mapping[str, Output] = {}


def watches(site: Site) -> Mapping[str, Watch]:
    """Each machine that some CE feeds."""
    found = {}
    for machine in sorted({ce.machine for ce in site.ce.values()}):
        table = site.machine[machine]
        ces = {short: ce for short, ce in site.ce.items() if ce.machine == machine}
        oldest_s = min(ce.listing_max_age_s for ce in ces.values())
        found[machine] = Watch(
            machine=machine,
            ces=frozenset(ces),
            user=table.user,
            pace=pace(table.listing_interval_s, table.listing_floor_s, oldest_s),
            listing_floor_s=table.listing_floor_s,
            facility_interval_s=table.facility_interval_s,
            settle_time_s=table.settle_time_s,
            listing_lag_s=table.listing_lag_s,
            missing_share=table.missing_share,
            outputs={short: Output(ce.batch.output, ce.batch.directory) for short, ce in ces.items()},
        )
    return found


def pace(usual_s: float, floor_s: float, oldest_s: float) -> Pace:
    """The pace around the usual interval; no listing may be older than `oldest_s` when the submitter decides on it."""
    slow_s = max(usual_s, min(SLOWER * usual_s, OF_THE_MAXIMUM_AGE * oldest_s))
    return Pace(quick_s=max(floor_s, usual_s / QUICKER), usual_s=usual_s, slow_s=slow_s)

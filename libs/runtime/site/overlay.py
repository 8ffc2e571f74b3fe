"""A CE as it is run: ALICE's settings laid over those of the site file. Pure.

Each setting is taken from the last of these that has it: the site file or its default, the directory's entry of the
site, of the host, of the CE. Exceptions, stronger than all: a setting that the site file names in `pinned` is the site
file's, and of two times to live the shorter holds, since the site file's is what the batch job's time limit leaves.
"""

from datetime import datetime

import msgspec

from libs.events.messages import FacilityObserved, SiteConfigObserved
from libs.runtime.site.ce import Ce

SITE_FILE = "site file"
CALLED_OFF = ("cancelled", "completed")


class Effective(msgspec.Struct, frozen=True, kw_only=True):
    """A CE as it is run, and where each setting that ALICE may set comes from (`environment.NAME` for a variable)."""

    ce: Ce
    origins: dict[str, str]


def effective(ce: Ce, observed: SiteConfigObserved | None) -> Effective:
    """The CE with ALICE's settings over it; as in the site file while ALICE said nothing."""
    origins = {"ttl_s": SITE_FILE, "cores": SITE_FILE, "partition": SITE_FILE}
    origins |= {f"environment.{name}": SITE_FILE for name in sorted(ce.agent.environment)}
    if observed is None:
        return Effective(ce=ce, origins=origins)
    return _laid_over(ce, observed, origins)


def _laid_over(ce: Ce, observed: SiteConfigObserved, origins: dict[str, str]) -> Effective:
    said = observed.origins
    changed = ce
    if observed.ttl_s is not None and "ttl_s" not in ce.pinned:
        if observed.ttl_s <= ce.ttl_s:
            changed = msgspec.structs.replace(changed, ttl_s=observed.ttl_s)
            origins["ttl_s"] = said.get("ttl_s", "")
        else:
            origins["ttl_s"] = f"{SITE_FILE}, below {said.get('ttl_s', '')} {observed.ttl_s}"
    if observed.cores is not None and "cores" not in ce.pinned:
        changed = msgspec.structs.replace(changed, cores=observed.cores)
        origins["cores"] = said.get("cores", "")
    if observed.partitions is not None and "partition" not in ce.pinned:
        changed = msgspec.structs.replace(changed, partition=",".join(observed.partitions))
        origins["partition"] = said.get("partitions", "")
    if observed.environment and "environment" not in ce.pinned:
        variables = ce.agent.environment | observed.environment
        changed = msgspec.structs.replace(changed, agent=msgspec.structs.replace(ce.agent, environment=variables))
        origins |= {f"environment.{name}": said.get(f"environment.{name}", "") for name in observed.environment}
    return Effective(ce=changed, origins=origins)


def before_outage(found: Effective, facility: FacilityObserved | None, now: datetime) -> Effective:
    """The same with a time to live that ends before the next planned outage begins, at least one second.

    An outage that has begun lowers nothing: what is submitted now starts after it.
    """
    coming = [
        outage
        for outage in (facility.planned_outages if facility else ())
        if outage.start_at > now and outage.status.lower() not in CALLED_OFF
    ]
    if not coming:
        return found
    first = min(coming, key=lambda outage: outage.start_at)
    left_s = max(1, int((first.start_at - now).total_seconds()))
    if left_s >= found.ce.ttl_s:
        return found
    because = f"outage {first.name!r} begins {first.start_at:%Y-%m-%d %H:%M} UTC"
    return Effective(ce=msgspec.structs.replace(found.ce, ttl_s=left_s), origins=found.origins | {"ttl_s": because})

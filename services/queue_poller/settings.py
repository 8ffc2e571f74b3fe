"""What the poller takes from the site file, with ALICE's settings over it."""

from libs.alice.site_config import extra_sites
from libs.alice.site_map import CeFacts
from libs.events.messages import SiteConfigObserved
from libs.runtime.site import Ce


def facts(ce: Ce, observed: SiteConfigObserved | None) -> CeFacts:
    """One CE, as it is run, as the broker sees it; several partitions are separated by commas."""
    return CeFacts(
        ce=ce.name,
        host=ce.host,
        ttl_s=ce.ttl_s,
        cores=ce.cores,
        partitions=tuple(name.strip() for name in ce.partition.split(",") if name.strip()),
        platform=ce.platform,
        users=tuple(observed.users) if observed else (),
        no_users=tuple(observed.no_users) if observed else (),
        required_cpus=observed.required_cpus if observed else "",
        extra_sites=tuple(extra_sites(ce.name, observed.close_storage)) if observed else (),
    )

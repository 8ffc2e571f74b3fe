"""What the poller takes from the site file."""

from libs.alice.site_map import CeFacts
from libs.runtime.site import Ce


def facts(ce: Ce) -> CeFacts:
    """One CE as the broker sees it; several partitions are separated by commas."""
    return CeFacts(
        ce=ce.name,
        host=ce.host,
        ttl_s=ce.ttl_s,
        cores=ce.cores,
        partitions=tuple(name.strip() for name in ce.partition.split(",") if name.strip()),
        platform=ce.platform,
    )

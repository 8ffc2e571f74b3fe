"""What the submitter takes from the site file."""

from libs.runtime.site import Site
from libs.slurm.endpoint import of_site
from libs.slurm.superfacility import Endpoint

# Of the API's one rate: the rest is the tracker's, whose listings are many where submissions are few.
SHARE_OF_THE_RATE = 0.5


def endpoints(site: Site) -> dict[str, Endpoint]:
    """The API of each machine that some CE feeds."""
    return {
        machine: of_site(site, machine, SHARE_OF_THE_RATE) for machine in sorted({c.machine for c in site.ce.values()})
    }

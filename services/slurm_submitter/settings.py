"""What the submitter takes from the site file."""

from libs.runtime.site import Site

# Of the API's one rate: the rest is the tracker's and, later, the logs'. Effects are few, listings are not.
SHARE_OF_THE_RATE = 0.5


def machines(site: Site) -> list[str]:
    """The machines that some CE feeds."""
    return sorted({ce.machine for ce in site.ce.values()})

"""What the submitter takes from the site file."""

from libs.runtime.site import Site

# Of the API's one rate: the rest is the tracker's, whose listings are many where submissions are few.
SHARE_OF_THE_RATE = 0.5


def machines(site: Site) -> list[str]:
    """Each machine that some CE feeds."""
    return sorted({ce.machine for ce in site.ce.values()})

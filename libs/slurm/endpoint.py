"""One machine of the site file as an endpoint of its API."""

from importlib.metadata import version

from libs.runtime import clock
from libs.runtime.errors import Misconfigured
from libs.runtime.site import Site
from libs.slurm.access import ApiClientKey
from libs.slurm.superfacility import Endpoint
from libs.slurm.transport import Bounds


def of_site(site: Site, machine: str, share: float) -> Endpoint:
    """The endpoint for one process, with its share (0 to 1) of the API's one rate.

    Misconfigured when the client's id or key cannot be read or used: at start that is a slip that stops the process,
    later it is a renewal under way that waiting mends.
    """
    endpoint = unchecked(site, machine, share)
    endpoint.key.assertion(endpoint.token_url, clock.now())
    return endpoint


def unchecked(site: Site, machine: str, share: float) -> Endpoint:
    """The same without a look at the client's files: whoever watches them starts without them, too."""
    table = site.machine[machine]
    if table.client_id_file is None or table.client_key_file is None:
        raise Misconfigured(f"machine.{machine}: flavour {table.flavour} needs client_id_file and client_key_file")
    return Endpoint(
        machine=machine,
        api_url=table.api_url,
        token_url=table.token_url,
        key=ApiClientKey(client_id_file=table.client_id_file, client_key_file=table.client_key_file),
        user_agent=f"nacre/{version('nacre')} ({site.site.contact})",
        time_zone=table.time_zone,
        rate_per_s=table.requests_per_s * share,
        rows_limit=table.listing_rows_limit,
        max_array_size=table.max_array_size,
        bounds=Bounds(concurrency=table.concurrency),
    )

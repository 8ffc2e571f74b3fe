"""What is asked of the processes apart: small enough to be known on both sides without what they load."""

from pathlib import Path

import msgspec

from libs.runtime.site import Site
from libs.runtime.site.credentials import Acme

# Of the API's rate: two requests every few minutes, and about eight more where the token file is uploaded.
SHARE_OF_THE_RATE = 0.1
ACME_ORDER = "services.cert_renewer.apart.acme_order"
FACILITY = "services.cert_renewer.apart.facility"


class Order(msgspec.Struct, frozen=True):
    """A certificate for a signing request, from an authority that speaks ACME."""

    settings: Acme
    account_directory: Path
    user_agent: str
    csr_pem: str


class Trial(msgspec.Struct, frozen=True, tag=True):
    """Is a machine's client good for an access token, and when does it end?"""

    site: Site
    machine: str
    share: float = SHARE_OF_THE_RATE


class Put(msgspec.Struct, frozen=True, tag=True):
    """Put a private file onto a machine, in one step. Never shown."""

    site: Site
    machine: str
    path: str
    content: bytes
    share: float = SHARE_OF_THE_RATE

    def __repr__(self) -> str:
        return f"Put({self.machine}:{self.path})"

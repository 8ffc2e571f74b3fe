"""What cert_renewer watches and writes."""

from pathlib import Path
from typing import Annotated

from msgspec import Meta

from libs.runtime.site.kinds import Seconds, Table


class Credentials(Table, frozen=True, kw_only=True):
    """What cert_renewer watches and writes. `host_certificate_directory` holds hostcert.pem and hostkey.pem."""

    host_certificate_directory: Path
    token_file: Path
    token_days: Annotated[int, Meta(ge=1, le=2)] = 2
    token_refresh_s: Seconds = 300.0
    check_interval_s: Seconds = 60.0

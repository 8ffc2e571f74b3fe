"""What cert_renewer watches and writes."""

import typing
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from libs.runtime.site.kinds import Address, Seconds, ShortName, Table


class Acme(Table, frozen=True, kw_only=True):
    """An authority that speaks ACME (RFC 8555); it asks for http-01 at port 80 of each name.

    What comes there for /.well-known/acme-challenge/ must be led to `http01_listen`, where an order answers while it is
    under way. `eab_key_id` and `eab_key_file` (base64url, as the authority gives it) bind our account to one that the
    authority knows already. `ca`: trust anchors for the directory's own HTTPS, by default the usual public ones.
    """

    directory_url: Annotated[str, Meta(pattern=r"^https://[^\s/]+/\S*$")]
    contact: str
    eab_key_id: str = ""
    eab_key_file: Path | None = None
    http01_listen: Address = "0.0.0.0:8086"
    ca: Path | None = None
    patience_s: Seconds = 180.0


class HostCertificate(Table, frozen=True, kw_only=True):
    """Where the next host certificate comes from, and what it must be to be taken. Not the ingress' certificate.

    `source`: a `directory` where somebody puts hostcert.pem and hostkey.pem; `acme`; `manual`, where host.csr is put
    and hostcert.pem awaited; or `host_token`, where an ALICE administrator puts tokencert.pem and tokenkey.pem.
    `dn`: the subject in ALICE's slash form, as the account has it in LDAP; by default that of the one it replaces.
    `names` must all be among its DNS names. `anchors`: the authorities that may have issued it, by default
    central_services.ca. `key`: of the keys that we make.
    """

    source: typing.Literal["directory", "acme", "manual", "host_token"] = "directory"
    dn: Annotated[str, Meta(pattern=r"^(/[A-Za-z0-9.]+=[^/].*)?$")] = ""
    names: list[str] = []
    anchors: Path | None = None
    server_auth: bool = False
    key: typing.Literal["rsa-2048", "rsa-4096", "p-256", "p-384"] = "rsa-2048"
    acme: Acme | None = None


class Credentials(Table, frozen=True, kw_only=True):
    """What cert_renewer watches and writes.

    `host_certificate_directory` is where the sources `directory`, `manual` and `host_token` put things. What is taken
    is installed where central_services.certificate says. `token_file` is mounted here, or, with `token_machine`, a path
    on that machine, to which it is uploaded through the API. Whatever the interval, a token is made anew each quarter
    of its life.
    """

    host_certificate_directory: Path | None = None
    host_certificate: HostCertificate = HostCertificate()
    token_file: Path
    token_machine: ShortName | None = None
    token_days: Annotated[int, Meta(ge=1, le=2)] = 2
    token_refresh_s: Seconds = 300.0
    check_interval_s: Seconds = 60.0
    client_check_interval_s: Seconds = 300.0

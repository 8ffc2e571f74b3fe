"""The relay of ApMon datagrams."""

from pathlib import Path
from typing import Annotated

from msgspec import Meta

from libs.runtime.site.kinds import Address, Positive, Seconds, Table


class Edge(Table, frozen=True, kw_only=True):
    """Datagrams by HTTPS, for a facility whose worker nodes reach no UDP port of ours.

    The batch script starts `script` (deploy/edge/apmon_edge.py, a path on the worker nodes' file system) with `python`;
    it listens on the node's 127.0.0.1:8884 and posts to `public_url`, which an ingress passes on to the relay's HTTP
    port `listen`. `bearer_file` is what it shows there, as the worker nodes see it; `{machine}` in it stands for the
    machine's short name. cert_renewer writes it under the same name beside the token file, good for `bearer_s`, signed
    with `bearer_key_file`, which the relay reads, too. `ca_file`, on the worker nodes: the trust anchors for
    `public_url`, by default the system's.
    """

    listen: Address = "0.0.0.0:8885"
    public_url: Annotated[str, Meta(pattern=r"^https?://[^\s/]+(/\S*)?$")]
    bearer_key_file: Path
    bearer_file: str
    bearer_s: Seconds = 86_400.0
    script: str
    python: str = "python3"
    ca_file: str = ""

    def bearer_file_of(self, machine: str) -> str:
        """`bearer_file` of one machine, as its worker nodes see it."""
        return self.bearer_file.replace("{machine}", machine)


class Monitoring(Table, frozen=True, kw_only=True):
    """The relay of ApMon datagrams. `public_address` is how worker nodes reach it (their APMON_CONFIG)."""

    listen: Address = "0.0.0.0:8884"
    public_address: str
    destinations: list[Address]
    buffer_bytes: Positive = 8 << 20
    ring_bytes: Positive = 32 << 20
    report_interval_s: Seconds = 60.0
    edge: Edge | None = None

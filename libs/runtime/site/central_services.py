"""ALICE's central services."""

from pathlib import Path

from libs.runtime.site.kinds import Address, Positive, Seconds, Table


class CentralServices(Table, frozen=True, kw_only=True):
    """ALICE's central services: where, and as whom. `ca` is a PEM file or a directory of trust anchors.

    `others` are further servers, each asked when those before it fail. With `verify_name` false anybody with a
    certificate of the trusted authorities may answer in their place, as ALICE's own CE allows; it is logged.
    Each CE is polled every `poll_interval_s`, sooner after a burst of changed job agents, never within `poll_floor_s`;
    its site configuration is read every `site_config_interval_s`.
    """

    host: str = "alice-jcentral.cern.ch"
    port: Positive = 8098
    others: list[Address] = []
    ca: Path
    certificate: Path
    key: Path
    account: str
    verify_name: bool = True
    read_timeout_s: Seconds = 60.0
    poll_interval_s: Seconds = 60.0
    poll_floor_s: Seconds = 10.0
    site_config_interval_s: Seconds = 300.0

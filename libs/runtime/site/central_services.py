"""ALICE's central services."""

from pathlib import Path

from libs.runtime.site.kinds import Positive, Seconds, Table


class CentralServices(Table, frozen=True, kw_only=True):
    """ALICE's central services: where, and as whom. `ca` is a PEM file or a directory of trust anchors.

    Each CE is polled every `poll_interval_s`, sooner after a burst of changed job agents, never within `poll_floor_s`.
    """

    host: str = "alice-jcentral.cern.ch"
    port: Positive = 8098
    ca: Path
    certificate: Path
    key: Path
    account: str
    verify_name: bool = True
    read_timeout_s: Seconds = 60.0
    poll_interval_s: Seconds = 60.0
    poll_floor_s: Seconds = 10.0

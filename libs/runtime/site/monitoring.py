"""The relay of ApMon datagrams."""

from libs.runtime.site.kinds import Address, Positive, Seconds, Table


class Monitoring(Table, frozen=True, kw_only=True):
    """The relay of ApMon datagrams. `public_address` is how worker nodes reach it (their APMON_CONFIG)."""

    listen: Address = "0.0.0.0:8884"
    public_address: str
    destinations: list[Address]
    buffer_bytes: Positive = 8 << 20
    ring_bytes: Positive = 32 << 20
    report_interval_s: Seconds = 60.0

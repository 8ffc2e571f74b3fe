"""What the relay takes from the site file and its process."""

from dataclasses import dataclass

from libs.runtime.run import Context
from libs.runtime.site import Ce


@dataclass(frozen=True, slots=True)
class Settings:
    """`relay` names this one on the bus; `ces` by short name; the rest is [monitoring] of the site file."""

    relay: str
    site: str
    listen: str
    destinations: tuple[str, ...]
    buffer_bytes: int
    ring_bytes: int
    report_interval_s: float
    ces: dict[str, Ce]
    replicas: int


def of(context: Context) -> Settings:
    """The relay's settings."""
    site, monitoring = context.site, context.site.monitoring
    return Settings(
        relay=context.instance,
        site=site.site.name,
        listen=monitoring.listen,
        destinations=tuple(dict.fromkeys(monitoring.destinations)),
        buffer_bytes=monitoring.buffer_bytes,
        ring_bytes=monitoring.ring_bytes,
        report_interval_s=monitoring.report_interval_s,
        # What runs under the name of a CE in shadow mode reports for it.
        ces={short: ce for short, ce in site.ce.items() if ce.mode == "active"},
        replicas=site.bus.replicas,
    )

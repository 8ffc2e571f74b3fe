"""The site map: what a CE tells the broker about itself, so that it counts the grid jobs that could run there.

The types are the broker's: it binds them as they come. Source: alien.site.SiteMap and alien.taskQueue.JobBroker of
https://gitlab.cern.ch/jalien/jalien.
"""

from dataclasses import dataclass

from libs.alice.java_values import Long, Plain
from libs.alice.requests import CE_PORT

CVMFS_THERE = 1
WHOLE_NODE = 0


@dataclass(frozen=True)
class CeFacts:
    """One CE as the broker sees it.

    `ce` is `ALICE::<site>::<ce>` and `host` its fully qualified name. A grid job matches when its time to live is
    below `ttl_s`, its cores are at most `cores` (0: a whole node, any number; None: not configured, one), and its
    partition is among `partitions`. `disk` is a limit that CEs before 2024 sent. `work_directory` is only echoed.
    `users` alone, or all but `no_users`, run here; without either the broker looks them up. `required_cpus` such as
    `>=8`. `extra_sites`: sites whose storage is near enough for the grid jobs that must run there.
    """

    ce: str
    host: str
    ttl_s: int
    cores: int | None = None
    partitions: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    no_users: tuple[str, ...] = ()
    required_cpus: str = ""
    extra_sites: tuple[str, ...] = ()
    platform: str = "Linux-x86_64"
    disk: str | None = None
    work_directory: str | None = None

    @property
    def site(self) -> str:
        """The site's name inside the CE's."""
        return self.ce.split("::")[1] if "::" in self.ce else ""


def site_map(facts: CeFacts) -> dict[str, Plain]:
    """The match request with the exact types that the broker needs.

    CVMFS stands for all packages: without it nothing matches. Never sent: Return (goes into SQL), Remote, CheckedLDAP.
    Disk comes before CPUCores as Java's table holds them, since both fall into one bucket.
    """
    found: dict[str, Plain] = {
        "Site": facts.site,
        "CE": facts.ce,
        "Host": facts.host,
        "CEhost": facts.host,
        "Localhost": facts.host,
        "alienCm": f"{facts.host}:{CE_PORT}",
        "Platform": facts.platform,
        "TTL": facts.ttl_s,
    }
    if facts.disk is not None:
        found["Disk"] = facts.disk
    found["CPUCores"] = Long(1) if facts.cores is None else facts.cores
    found["CVMFS"] = CVMFS_THERE
    if facts.partitions:
        found["Partition"] = f",{','.join(facts.partitions)},"
    if facts.users:
        found["Users"] = facts.users
    if facts.no_users:
        found["NoUsers"] = facts.no_users
    if facts.required_cpus:
        found["RequiredCpusCe"] = facts.required_cpus
    if facts.extra_sites:
        found["Extrasites"] = facts.extra_sites
    if facts.work_directory is not None:
        found["workdir"] = facts.work_directory
    return found

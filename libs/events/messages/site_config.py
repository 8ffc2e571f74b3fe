"""What ALICE's directory says about a CE."""

from datetime import datetime

from libs.events.messages.event import Event


class SiteConfigObserved(Event, frozen=True, kw_only=True):
    """What ALICE's directory (LDAP) says about one CE, as its central services answered.

    None, or not there: ALICE says nothing, the site file's setting stands. `cores` 0 is a whole node. `partitions` and
    `close_storage` are names; `users` and `no_users` accounts whose grid jobs alone, or never, run here;
    `required_cpus` what a grid job's cores must be, such as `>=8`; `environment` variables of the job agents.
    `origins`: each of these (`environment.NAME` for a variable) -> the attribute it comes from, such as `ce_ttl`.

    `attributes`: what all this was made of, as last read well; `read_at`: entry (`site`, `host`, `ce`, `partitions`) ->
    when that was. `problems`: what vanished or cannot be read, and is kept as it was. `unknown_because`: why the last
    reading failed altogether; everything is as it was then, too. `changes`: the last ones seen, at `changed_at`.
    """

    ce: str
    ttl_s: int | None = None
    cores: int | None = None
    partitions: list[str] | None = None
    users: list[str] = []
    no_users: list[str] = []
    required_cpus: str = ""
    close_storage: list[str] = []
    environment: dict[str, str] = {}
    origins: dict[str, str] = {}
    attributes: dict[str, list[str]] = {}
    read_at: dict[str, datetime] = {}
    problems: list[str] = []
    unknown_because: str = ""
    changes: list[str] = []
    changed_at: datetime | None = None

"""What a CE reads about itself in ALICE's directory (LDAP), and what it makes of it. Pure.

Four entries: the site's, the host's, the CE's, and the partitions that name the CE. Attributes are called as in ALICE's
own CE, `<entry>_<attribute in lower case>`. Source: alien.config.ConfigUtils, alien.site.SiteMap and
alien.site.ComputingElement of https://gitlab.cern.ch/jalien/jalien.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec

from libs.alice.answers import LdapInfo, LdapTree
from libs.alice.requests import LdapInfoRequest, LdapTreeRequest
from libs.alice.site_attributes import Attributes, partitions, taken
from libs.events.messages import SiteConfigObserved

PARTITIONS = "partitions"

_USERS = re.compile(r'other\.user\s*==\s*"(\w+)"', re.ASCII | re.IGNORECASE)
_NO_USERS = re.compile(r'other\.user\s*!=\s*"(\w+)"', re.ASCII | re.IGNORECASE)
_CPUS = re.compile(r"other\.cpucores\s*(>=|<=|>|<|==|=|!=)\s*([0-9]{1,9})", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class Reading:
    """What the central services answered; an entry that was not found is empty. Names in lower case, no prefix."""

    site: Attributes
    host: Attributes
    ce: Attributes
    partitions: Sequence[str]


@dataclass(frozen=True)
class Questions:
    """The four requests of one reading."""

    site: LdapTreeRequest
    host: LdapTreeRequest
    ce: LdapTreeRequest
    partitions: LdapInfoRequest

    def reading(self, *, site: LdapTree, host: LdapTree, ce: LdapTree, partitions: LdapInfo) -> Reading:
        """The four answers without the prefixes that were asked for."""
        return Reading(
            site=_bare(self.site, site),
            host=_bare(self.host, host),
            ce=_bare(self.ce, ce),
            partitions=partitions.values,
        )


def questions(ce: str, host: str) -> Questions:
    """What to ask for the CE `ALICE::<site>::<ce>` on that host. Several CEs may share a host, so a CE goes by name."""
    _, site, short = (_escaped(part) for part in ce.split("::"))
    return Questions(
        site=LdapTreeRequest(f"(&(ou={site})(objectClass=AliEnSite))", "ou=Sites,", "site"),
        host=LdapTreeRequest(f"(&(host={_escaped(host)}))", f"ou=Config,ou={site},ou=Sites,", "host"),
        ce=LdapTreeRequest(f"(&(name={short}))", f"ou=CE,ou=Services,ou={site},ou=Sites,", "ce"),
        partitions=LdapInfoRequest(f"(&(CEname={_escaped(ce)}))", "ou=Partitions,", "name"),
    )


def observed(
    reading: Reading, previous: SiteConfigObserved | None, *, ce: str, at: datetime, by: str
) -> SiteConfigObserved:
    """What holds after a reading; `ce` is the short name.

    An entry that vanished, and an attribute that cannot be read, stay as they were last read well; `problems` says so.
    An attribute that is gone from an entry is gone. A CE whose own entry was found is in no partition if none names it.
    """
    kept = previous.attributes if previous else {}
    read_at = dict(previous.read_at) if previous else {}
    attributes: dict[str, list[str]] = {}
    problems: list[str] = []
    for entry, found in (("site", reading.site), ("host", reading.host), ("ce", reading.ce)):
        of_entry = {name: kept[name] for name in kept if name.startswith(f"{entry}_")}
        if found:
            read_at[entry] = at
            attributes |= taken(entry, found, of_entry, problems)
        else:
            attributes |= of_entry
            problems.append(_vanished(f"the {entry} entry", read_at.get(entry)))
    if reading.partitions or reading.ce:
        read_at[PARTITIONS] = at
        attributes[PARTITIONS] = partitions(reading.partitions, problems)
    elif PARTITIONS in kept:
        attributes[PARTITIONS] = kept[PARTITIONS]
    made = _made_of(attributes, SiteConfigObserved(at=at, by=by, ce=ce, read_at=read_at, problems=problems))
    return _with_changes(made, previous)


def not_observed(
    why: str, previous: SiteConfigObserved | None, *, ce: str, at: datetime, by: str
) -> SiteConfigObserved:
    """What holds after a reading that failed altogether: everything as it was, and why it is not newer."""
    if previous is None:
        return SiteConfigObserved(at=at, by=by, ce=ce, unknown_because=why)
    return msgspec.structs.replace(previous, at=at, by=by, unknown_because=why)


def settings(found: SiteConfigObserved) -> dict[str, str]:
    """Each setting that ALICE sets, as text."""
    texts = {
        "ttl_s": "" if found.ttl_s is None else str(found.ttl_s),
        "cores": "" if found.cores is None else str(found.cores),
        "partitions": ", ".join(found.partitions or []) or "none",
        "users": ", ".join(found.users),
        "no_users": ", ".join(found.no_users),
        "required_cpus": found.required_cpus,
        "close_storage": ", ".join(found.close_storage),
    }
    texts |= {f"environment.{name}": text for name, text in found.environment.items()}
    return {name: texts[name] for name in found.origins}


def extra_sites(ce: str, close_storage: Sequence[str]) -> list[str]:
    """The sites whose grid jobs this CE may run because it is near their storage, such as `ALICE::CERN::EOS`."""
    own = ce.split("::")[1].casefold()
    sites = [name.split("::")[1] for name in close_storage]
    return [site for site in dict.fromkeys(sites) if site.casefold() != own]


def _bare(asked: LdapTreeRequest, found: LdapTree) -> Attributes:
    return {name.removeprefix(f"{asked.prefix}_"): values for name, values in found.attributes.items()}


def _escaped(text: str) -> str:
    """Text inside an LDAP filter or name (https://www.rfc-editor.org/rfc/rfc4515#section-3)."""
    return "".join(f"\\{ord(one):02x}" if one in '\\*(),+"<>;=\0' else one for one in text)


def _vanished(what: str, read_at: datetime | None) -> str:
    if read_at is None:
        return f"ALICE's directory has no such entry: {what}"
    return f"{what} vanished; it is kept as read at {read_at:%Y-%m-%d %H:%M} UTC"


def _made_of(attributes: dict[str, list[str]], blank: SiteConfigObserved) -> SiteConfigObserved:
    """The settings that the attributes, all of them good, come to; of two origins the CE's entry is the stronger."""
    made: dict[str, object] = {}
    origins: dict[str, str] = {}

    def take(setting: str, origin: str, value: object) -> None:
        made[setting], origins[setting] = value, origin

    if "ce_ttl" in attributes:
        take("ttl_s", "ce_ttl", int(attributes["ce_ttl"][0]))
    if attributes.get("ce_matcharg"):
        take("cores", "ce_matcharg", int(attributes["ce_matcharg"][0].removeprefix("CPUCores=")))
    if PARTITIONS in attributes:
        take("partitions", PARTITIONS, attributes[PARTITIONS])
    storage = next((name for name in ("host_closese", "site_closese") if name in attributes), "")
    if storage:
        take("close_storage", storage, attributes[storage])
    requirements = " && ".join(attributes.get("ce_cerequirements", ()))
    cpus = _CPUS.search(requirements)
    for setting, value in (
        ("users", _USERS.findall(requirements)),
        ("no_users", _NO_USERS.findall(requirements)),
        ("required_cpus", "".join(cpus.groups()) if cpus else ""),
    ):
        if value:
            take(setting, "ce_cerequirements", value)
    variables = _agent_variables(attributes, requirements, cpus)
    made["environment"] = {name: text for name, (text, _) in variables.items()}
    origins |= {f"environment.{name}": origin for name, (_, origin) in variables.items()}
    return msgspec.structs.replace(blank, attributes=attributes, origins=origins, **made)


def _agent_variables(
    attributes: Attributes, requirements: str, cpus: re.Match[str] | None
) -> dict[str, tuple[str, str]]:
    """Name -> value and origin."""
    found: dict[str, tuple[str, str]] = {}
    for origin in ("host_environment", "ce_environment"):
        for pair in attributes.get(origin, ()):
            name, _, text = pair.partition("=")
            found[name] = text, origin
    if installed := attributes.get("ce_installationmethod"):
        found["installationMethod"] = installed[0], "ce_installationmethod"
    if requirements:
        found["cerequirements"] = requirements, "ce_cerequirements"
    if cpus:
        found["RequiredCpusCe"] = "".join(cpus.groups()), "ce_cerequirements"
    for origin in ("site_closese", "host_closese"):
        if origin in attributes:
            found["closeSE"] = ",".join(attributes[origin]), origin
    return found


def _with_changes(made: SiteConfigObserved, previous: SiteConfigObserved | None) -> SiteConfigObserved:
    if previous is None:
        return made
    old, new = settings(previous), settings(made)
    changes = [
        f"{name}: {old.get(name, 'not set')} -> {f'{new[name]} ({made.origins[name]})' if name in new else 'not set'}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]
    if not changes:
        return msgspec.structs.replace(made, changes=previous.changes, changed_at=previous.changed_at)
    return msgspec.structs.replace(made, changes=changes, changed_at=made.at)

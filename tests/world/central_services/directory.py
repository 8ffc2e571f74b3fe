"""Who is who, and what the site offers: the questions central services ask their LDAP."""

from cryptography import x509

from tests.world.central_services.ldap import NamingError
from tests.world.central_services.site_config import SiteConfig

JOB_AGENT_DN = "/C=ch/O=AliEn2/CN=JobAgent"
JOB_AGENT_ACCOUNT = "jobagent"


def slash_dn(certificate: x509.Certificate) -> str:
    """The subject as central services write it: `/C=CH/O=JAliEn/CN=x`."""
    return "".join("/" + part for part in reversed(certificate.subject.rfc4514_string().split(",")))


class Directory:
    """Answers from the site configuration as it is at the moment of the question."""

    def __init__(self, config: SiteConfig) -> None:
        self._config = config

    def values(self, wanted: str, root_extension: str, key: str, *, recursive: bool = True) -> list[str]:
        """The values of one attribute in all entries found, sorted; `dn`: their names below the base."""
        try:
            found = self._config.tree.search(root_extension, wanted, recursive=recursive)
        except NamingError:
            return []
        if key == "dn":
            return sorted({name for name, _ in found})
        return sorted({value for _, entry in found for value in entry.attributes.get(key.lower(), ())})

    def attributes(self, wanted: str, root_extension: str, prefix: str = "") -> dict[str, tuple[str, ...]]:
        """All attributes of all entries found, of several the last one's; names get `prefix` and `_`."""
        try:
            found = self._config.tree.search(root_extension, wanted)
        except NamingError:
            return {}
        before = f"{prefix}_" if prefix.strip() else ""
        return {before + name: values for _, entry in found for name, values in entry.attributes.items()}

    def account_of(self, dn: str) -> str | None:
        """The account of a TLS subject, None when it has none."""
        if dn == JOB_AGENT_DN:
            return JOB_AGENT_ACCOUNT
        for uid in sorted(self._config.document["accounts"]):
            subjects = self._config.document["accounts"][uid].get("subject", [])
            held = [subjects] if isinstance(subjects, str) else subjects
            if dn.casefold() in (subject.casefold() for subject in held):
                return uid
        return None

    def accounts(self) -> frozenset[str]:
        """The accounts the task queue has heard of."""
        return frozenset(self._config.document["accounts"])

    def roles_of(self, account: str) -> list[str]:
        """The roles an account has beyond its own name."""
        return self.values(f"(users={account})", "ou=Roles,", "uid")

    def knows_host(self, host: str) -> bool:
        """Whether the host's domain (after the first dot) belongs to a site."""
        return bool(self.values(f"(&(domain={host.partition('.')[2]})(objectClass=AliEnSite))", "ou=Sites,", "ou"))

    def requirements(self, site: str, ce_name: str) -> str | None:
        """What a CE (short name) demands of grid jobs, None when nothing."""
        found = self.attributes(f"(&(name={ce_name}))", f"ou=CE,ou=Services,ou={site},ou=Sites,", "ce")
        values = found.get("ce_cerequirements")
        if values is None:
            return None
        # A set of several is written as Java's collections print themselves.
        return values[0] if len(values) == 1 else f"[{', '.join(sorted(values))}]"

    def partitions(self, ce: str) -> str:
        """The partitions of a CE (full name) as `,a,b,`; `,,` when it is in none."""
        names = self.values(f"(&(CEname={ce}))", "ou=Partitions,", "name")
        return f",{','.join(names)},"

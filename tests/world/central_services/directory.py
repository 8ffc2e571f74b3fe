"""Who is who: accounts by certificate subject, roles by account, the site's domain (LDAP in the real world)."""

from dataclasses import dataclass

from cryptography import x509

JOB_AGENT_DN = "/C=ch/O=AliEn2/CN=JobAgent"
JOB_AGENT_ACCOUNT = "jobagent"


def slash_dn(certificate: x509.Certificate) -> str:
    """The subject as central services write it: `/C=CH/O=JAliEn/CN=x`."""
    return "".join("/" + part for part in reversed(certificate.subject.rfc4514_string().split(",")))


@dataclass(frozen=True)
class Directory:
    """`accounts`: subject -> account; `roles`: account -> roles beyond its own name; `domain`: of the site's hosts."""

    accounts: dict[str, str]
    roles: dict[str, tuple[str, ...]]
    domain: str

    def account_of(self, dn: str) -> str | None:
        """The account of a TLS subject, None when it has none."""
        return JOB_AGENT_ACCOUNT if dn == JOB_AGENT_DN else self.accounts.get(dn)

    def knows_host(self, host: str) -> bool:
        """Whether the host's domain (after the first dot) belongs to a site."""
        return host.partition(".")[2] == self.domain

"""The releases of central services, and in what they differ. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Generation:
    """`reset_every` replies the server forgets its handles (0: never)."""

    reset_every: int
    unknown_classes: frozenset[str]
    # A CE that names no partition gets grid jobs that want none only; before, it got all.
    partition_needed: bool


_LDAP = frozenset({"alien.api.LDAPInfoRequest", "alien.api.LDAPTreeRequest"})

GENERATIONS = {
    "2022": Generation(reset_every=10, unknown_classes=_LDAP, partition_needed=False),
    "2024": Generation(reset_every=0, unknown_classes=frozenset(), partition_needed=True),
}

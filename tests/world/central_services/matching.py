"""Which grid jobs a site map asks for, as a condition on the task queue. Pure.

The conditions per key, and the order in which they are looked at, are those of the real broker.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from tests.world.central_services.java_errors import Thrown
from tests.world.central_services.java_values import Plain, wrong_class

_LEADING_NUMBER = re.compile(r"\s*(-?[0-9]{1,18})")
_JAVA_INT = re.compile(r"[+-]?[0-9]{1,10}")
_CORES_WANTED = re.compile(r"\s*(>=|<=|>|<|==|=|!=)\s*([0-9]{1,18})")
_USERS_REQUIRED = re.compile(r'\s*other.user\s*==\s*"(\w+)"', re.ASCII)
_USERS_REFUSED = re.compile(r'\s*other.user\s*!=\s*"(\w+)"', re.ASCII)

NO_PARTITION = ",,"


class BrokenQuery(Exception):
    """The broker's SQL would not be SQL: the database refuses it, and the broker finds no row at all."""


@dataclass(frozen=True)
class Where:
    """A condition in SQL with its values."""

    text: str
    values: tuple[str | int | float | None, ...]


def users_of(requirements: str) -> tuple[list[str], list[str]]:
    """The accounts that a CE's requirements allow, and those they refuse."""
    return _USERS_REQUIRED.findall(requirements), _USERS_REFUSED.findall(requirements)


class _Conditions:
    """Clauses that must all hold, with the values bound to them in order."""

    def __init__(self) -> None:
        self._clauses: list[str] = []
        self._values: list[str | int | float | None] = []

    def add(self, clause: str, *values: str | int | float | None) -> None:
        self._clauses.append(clause)
        self._values += values

    def where(self) -> Where:
        return Where(" and ".join(self._clauses) or "1", tuple(self._values))


def where(asked: Mapping[str, Plain], *, partition_needed: bool, accounts: Collection[str]) -> Where:
    """The condition for a site map. Raises Thrown for wrong types, BrokenQuery for an impossible combination.

    `partition_needed`: a map without partitions gets only grid jobs that want none; `accounts` are those with an id.
    """
    conditions = _Conditions()
    _add_sizes(asked, conditions)
    _add_site(asked, conditions)
    if "CVMFS" not in asked and asked.get("InstalledPackages", asked.get("Packages")) is None:
        conditions.add("0")
    if "CE" in asked:
        ce = _scalar(asked["CE"])
        conditions.add("(ce = '' or ce = ?)", ce)
        conditions.add("no_ces not like ?", _within(ce))
    _add_partition(asked, partition_needed, conditions)
    _add_users(asked, accounts, conditions)
    return conditions.where()


def _add_sizes(asked: Mapping[str, Plain], conditions: _Conditions) -> None:
    for key, column in (("TTL", "ttl_s"), ("Disk", "disk_kb")):
        if key in asked:
            conditions.add(f"{column} < ?", _number(asked[key]))
    if "CPUCores" in asked and _java_int(asked["CPUCores"]) != 0:
        conditions.add("cores <= ?", _number(asked["CPUCores"]))
    if "RequiredCpusCe" in asked:
        wanted = asked["RequiredCpusCe"]
        if not isinstance(wanted, str):
            raise wrong_class(wanted, "java.lang.String")
        if found := _CORES_WANTED.fullmatch(wanted):
            conditions.add(f"cores {found.group(1)} ?", int(found.group(2)))


def _add_site(asked: Mapping[str, Plain], conditions: _Conditions) -> None:
    sites = [_scalar(asked["Site"])] if "Site" in asked else []
    if "Extrasites" in asked:
        if not sites:
            raise BrokenQuery("Extrasites without Site")
        sites += [_scalar(site) for site in _listed(asked["Extrasites"])]
    if sites:
        choice = " or ".join(["sites like ?"] * len(sites))
        conditions.add(f"(sites = '' or {choice})", *(_within(site) for site in sites))


def _add_partition(asked: Mapping[str, Plain], needed: bool, conditions: _Conditions) -> None:
    partition = asked.get("Partition")
    if partition is not None and partition != NO_PARTITION:
        conditions.add("? like '%,' || partition || ',%'", _scalar(partition))
    elif needed:
        conditions.add("partition = '%'")
    elif "Partition" in asked and partition is None:
        conditions.add("0")


def _add_users(asked: Mapping[str, Plain], accounts: Collection[str], conditions: _Conditions) -> None:
    if wanted := _listed(asked.get("Users")):
        known = [user for user in wanted if isinstance(user, str) and user in accounts]
        if not known:
            raise BrokenQuery("none of the Users has an id")
        conditions.add(f"({' or '.join(['user = ?'] * len(known))})", *known)
    for user in _listed(asked.get("NoUsers")):
        if isinstance(user, str) and user in accounts:
            conditions.add("user != ?", user)


def _listed(value: Plain) -> list[Plain]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise wrong_class(value, "java.util.ArrayList")
    return value


def _scalar(value: Plain) -> str | None:
    if isinstance(value, list):
        raise wrong_class(value, "java.lang.String")
    return None if value is None else str(value)


def _within(value: str | None) -> str | None:
    return None if value is None else f"%,{value},%"


def _number(value: Plain) -> int | float | None:
    """A number as the database takes the bound value: a text counts as the number it begins with."""
    if isinstance(value, str):
        found = _LEADING_NUMBER.match(value)
        return int(found.group(1)) if found else 0
    return None if isinstance(value, list) else value


def _java_int(value: Plain) -> int:
    if value is None:
        text = 'Cannot invoke "Object.toString()" because the return value of "java.util.HashMap.get(Object)" is null'
        raise Thrown("java.lang.NullPointerException", text)
    if not _JAVA_INT.fullmatch(str(value)) or not -(1 << 31) <= int(str(value)) < 1 << 31:
        raise Thrown("java.lang.NumberFormatException", f'For input string: "{value}"')
    return int(str(value))

"""The attributes of ALICE's directory that a CE uses, and what each must be to be used. Pure."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

MOST_VALUES = 64
MOST_CHARACTERS = 1024
JAVA_INT_MOST = (1 << 31) - 1

Attributes: TypeAlias = Mapping[str, Sequence[str]]

_NUMBER = re.compile(r"[0-9]{1,10}", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9_.:@-]+", re.ASCII)

# The variables that ALICE's CE hands on to its job agents, by the name that `environment` entries have there.
_NUMBERS_HANDED_ON = {name.lower(): name for name in ("MAX_RETRIES", "RESERVED_DISK", "RESERVED_RAM")}
_HANDED_ON = _NUMBERS_HANDED_ON | {"cpuisolation": "cpuIsolation"}


def taken(entry: str, found: Attributes, kept: Attributes, problems: list[str]) -> dict[str, list[str]]:
    """The attributes of an entry that are used here, each as read, or as it was when it cannot be read."""
    taken: dict[str, list[str]] = {}
    for attribute, read in _USED[entry].items():
        name = f"{entry}_{attribute}"
        if attribute not in found:
            continue
        try:
            taken[name] = read(_bounded(found[attribute]))
        except ValueError as problem:
            if name in kept:
                taken[name] = list(kept[name])
            problems.append(f"{name} {problem}; {'it is kept as it was' if name in kept else 'it is left out'}")
    return taken


def partitions(names: Sequence[str], problems: list[str]) -> list[str]:
    """Names of partitions, sorted; those that cannot be one are left out and told."""
    good = sorted(name for name in names if _NAME.fullmatch(name))[:MOST_VALUES]
    if len(good) < len(names):
        problems.append(f"partitions: {_shown([*set(names).difference(good)])} cannot be used; left out")
    return good


def _bounded(values: Sequence[str]) -> list[str]:
    if len(values) > MOST_VALUES:
        raise ValueError(f"has {len(values)} values")
    if any(len(value) > MOST_CHARACTERS or not value.isprintable() for value in values):
        raise ValueError(f"holds what cannot be printed, or more than {MOST_CHARACTERS} characters")
    return [value.strip() for value in values]


def _number(values: list[str]) -> list[str]:
    if len(values) != 1 or not _NUMBER.fullmatch(values[0]) or not 0 < int(values[0]) <= JAVA_INT_MOST:
        raise ValueError(f"{_shown(values)} is no number of seconds")
    return values


def _match_arguments(values: list[str]) -> list[str]:
    found = [text.strip() for name, text in map(_pair, values) if name == "cpucores"]
    if any(not _NUMBER.fullmatch(text) or int(text) > JAVA_INT_MOST for text in found) or len(set(found)) > 1:
        raise ValueError(f"{_shown(values)} has no number of cores")
    return [f"CPUCores={text}" for text in found[:1]]


def _variables(values: list[str]) -> list[str]:
    found = []
    for value in values:
        name, text = _pair(value)
        if name in _NUMBERS_HANDED_ON and not _NUMBER.fullmatch(text):
            raise ValueError(f"{_shown([value])} has no number")
        if name in _HANDED_ON:
            found.append(f"{_HANDED_ON[name]}={text}")
    return found


def _storage(values: list[str]) -> list[str]:
    names = [name.strip() for value in values for name in value.split(",")]
    if not all(_NAME.fullmatch(name) and len(name.split("::")) == 3 for name in names):  # noqa: PLR2004 - ALICE::a::b
        raise ValueError(f"{_shown(values)} is no list of storage elements")
    return names


def _any(values: list[str]) -> list[str]:
    return values


_USED: dict[str, dict[str, Callable[[list[str]], list[str]]]] = {
    "site": {"closese": _storage},
    "host": {"closese": _storage, "environment": _variables},
    "ce": {
        "ttl": _number,
        "matcharg": _match_arguments,
        "cerequirements": _any,
        "environment": _variables,
        "installationmethod": _any,
    },
}


def _pair(value: str) -> tuple[str, str]:
    """`Name=text`, the name in lower case."""
    name, _, text = value.partition("=")
    return name.strip().lower(), text.strip()


def _shown(values: Sequence[str]) -> str:
    return repr(" ".join(values)[:60])

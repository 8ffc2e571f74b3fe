"""A small LDAP: entries with attributes, and the searches central services make among them. Pure.

Names, attributes and values are compared without regard to case, as the directory of ALICE does.
Filters: https://www.rfc-editor.org/rfc/rfc4515 with and, or, not, equality, presence and substrings.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

_FILTER_MAX_CHARACTERS = 4096
_DEPTH_MAX = 20
_ESCAPED = re.compile(r"\\([0-9A-Fa-f]{2})")

Attributes = Mapping[str, tuple[str, ...]]
Matches = Callable[[Attributes], bool]


class NamingError(Exception):
    """No such base, or a filter that cannot be read; central services answer it with nothing found."""


@dataclass(frozen=True)
class Entry:
    """`dn` without the root of the tree; attribute names are in lower case."""

    dn: str
    attributes: Attributes


class Tree:
    """All entries; a search sees those below its base and the base itself."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._entries = {_comparable(entry.dn): entry for entry in entries}

    def search(self, root_extension: str, wanted: str, *, recursive: bool = True) -> list[tuple[str, Entry]]:
        """Entries with their names relative to the base; `root_extension` ends with a comma, or is empty for all."""
        matches = _parse(wanted)
        base = _comparable(root_extension.removesuffix(","))
        if bool(base) != root_extension.endswith(",") or base not in self._entries:
            raise NamingError(f"no such base: {root_extension!r}")
        below = f",{base}" if base else ""
        found = []
        for dn, entry in self._entries.items():
            if dn != base and not dn.endswith(below):
                continue
            name = "" if dn == base else entry.dn[: len(entry.dn) - len(below)]
            inside = recursive or (dn != base and "," not in name)
            if inside and matches(entry.attributes):
                found.append((name, entry))
        return found


def _comparable(value: str) -> str:
    return " ".join(value.split()).casefold()


def _parse(text: str) -> Matches:
    if len(text) > _FILTER_MAX_CHARACTERS:
        raise NamingError("the filter is too long")
    if not text.startswith("("):
        text = f"({text})"
    matches, end = _item(text, 0, 0)
    if end != len(text):
        raise NamingError("characters after the filter")
    return matches


def _item(text: str, at: int, depth: int) -> tuple[Matches, int]:
    """The filter that begins at `at` with its parenthesis, and where it ends."""
    if depth > _DEPTH_MAX or text[at : at + 1] != "(":
        raise NamingError("a filter is nested too deeply, or lacks a parenthesis")
    kind = text[at + 1 : at + 2]
    if kind not in ("&", "|", "!"):
        end = text.find(")", at)
        if end < 0:
            raise NamingError("a filter has no end")
        return _comparison(text[at + 1 : end]), end + 1
    parts: list[Matches] = []
    at += 2
    while text[at : at + 1] == "(":
        part, at = _item(text, at, depth + 1)
        parts.append(part)
    if text[at : at + 1] != ")" or (kind == "!" and len(parts) != 1):
        raise NamingError("a filter has no end")
    if kind == "&":
        return (lambda entry: all(part(entry) for part in parts)), at + 1
    if kind == "|":
        return (lambda entry: any(part(entry) for part in parts)), at + 1
    return (lambda entry: not parts[0](entry)), at + 1


def _comparison(text: str) -> Matches:
    name, equals, value = text.partition("=")
    name = name.strip().lower()
    if not equals or not name or "(" in text:
        raise NamingError("a comparison has no attribute")
    if value == "*":
        return lambda entry: name in entry
    pieces = [re.escape(_comparable(_ESCAPED.sub(_unescaped, piece))) for piece in value.split("*")]
    pattern = re.compile(".*".join(pieces), re.DOTALL)
    return lambda entry: any(pattern.fullmatch(_comparable(held)) for held in entry.get(name, ()))


def _unescaped(found: re.Match[str]) -> str:
    return chr(int(found.group(1), 16))

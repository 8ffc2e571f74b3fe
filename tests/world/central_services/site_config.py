"""What ALICE's LDAP says about the site: one document, changed by merge patches, kept in a file, searched as a tree.

    {"vo": A, "site": A, "hosts": {host: A}, "ces": {short name: A}, "monalisas": {name: A}, "partitions": {name: A},
     "roles": {name: A}, "accounts": {uid: A}},  A = {attribute in lower case: text or list of texts}

Attributes that name an entry, and objectclass, are added where they are not given.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.world.central_services.ldap import Entry, Tree

_PLAIN = ("vo", "site")
_BELOW_SITE = {
    "hosts": ("host", "ou=Config", "AliEnHostConfig"),
    "ces": ("name", "ou=CE,ou=Services", "AliEnCE"),
    "monalisas": ("name", "ou=MonaLisa,ou=Services", "AliEnMonaLisa"),
}
_BELOW_ROOT = {
    "partitions": ("name", "ou=Partitions", "AliEnPartition"),
    "roles": ("uid", "ou=Roles", "AliEnRole"),
    "accounts": ("uid", "ou=People", "pkiUser"),
}
SECTIONS = (*_PLAIN, *_BELOW_SITE, *_BELOW_ROOT)

_NAME = re.compile(r"[A-Za-z0-9_.:@-]{1,100}")
_ATTRIBUTE = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,63}")
_ENTRIES_MAX, _ATTRIBUTES_MAX, _VALUES_MAX, _VALUE_MAX_CHARACTERS = 500, 100, 100, 4096

Document = dict[str, dict[str, Any]]


class BadSiteConfig(Exception):
    """A change that is no merge patch of this document; it is not made."""


class SiteConfig:
    """The document in `path` (made from `initial` when there is none) for the site `site`."""

    def __init__(self, path: Path, site: str, initial: Mapping[str, Any]) -> None:
        self.site = site
        self._path = path
        self.document: Document = {section: {} for section in SECTIONS}
        self.tree = Tree(())
        try:
            self.change(json.loads(path.read_text()) if path.exists() else initial)
        except (ValueError, BadSiteConfig) as error:
            raise OSError(f"{path} cannot be read: {error}") from error

    def change(self, patch: Mapping[str, Any]) -> None:
        """Merges: null removes an attribute or an entry, all else replaces. Raises BadSiteConfig, changing nothing."""
        if unknown := sorted(set(patch) - set(SECTIONS)):
            raise BadSiteConfig(f"unknown section {unknown[0]!r}; known are {sorted(SECTIONS)}")
        changed = dict(self.document)
        for section, sent in patch.items():
            if section in _PLAIN:
                changed[section] = _attributes(changed[section], sent, section)
            else:
                changed[section] = _entries(changed[section], sent, section)
        self.document = changed
        self.tree = Tree(_tree(self.site, changed))
        part = self._path.with_name(self._path.name + ".part")
        part.write_text(json.dumps(changed, indent=1))
        os.replace(part, self._path)


def _entries(old: Mapping[str, Any], sent: Any, section: str) -> dict[str, Any]:
    if not isinstance(sent, dict):
        raise BadSiteConfig(f"{section} must be an object of entries")
    merged = dict(old)
    for name, attributes in sent.items():
        if not _NAME.fullmatch(name):
            raise BadSiteConfig(f"{section}: {name[:100]!r} is no name of an entry")
        if attributes is None:
            merged.pop(name, None)
        else:
            merged[name] = _attributes(merged.get(name, {}), attributes, f"{section}.{name}")
    if len(merged) > _ENTRIES_MAX:
        raise BadSiteConfig(f"{section} has more than {_ENTRIES_MAX} entries")
    return merged


def _attributes(old: Mapping[str, Any], sent: Any, where: str) -> dict[str, Any]:
    if not isinstance(sent, dict):
        raise BadSiteConfig(f"{where} must be an object of attributes")
    merged = dict(old)
    for name, value in sent.items():
        if not _ATTRIBUTE.fullmatch(name):
            raise BadSiteConfig(f"{where}: {name[:100]!r} is no attribute")
        if value is None:
            merged.pop(name.lower(), None)
        else:
            merged[name.lower()] = _checked(value, f"{where}.{name}")
    if len(merged) > _ATTRIBUTES_MAX:
        raise BadSiteConfig(f"{where} has more than {_ATTRIBUTES_MAX} attributes")
    return merged


def _checked(value: Any, where: str) -> str | list[str]:
    values = value if isinstance(value, list) else [value]
    if not 0 < len(values) <= _VALUES_MAX or not all(isinstance(one, str) and one for one in values):
        raise BadSiteConfig(f"{where} must be a text, or a list of 1 to {_VALUES_MAX} texts, none empty")
    if any(len(one) > _VALUE_MAX_CHARACTERS or not one.isprintable() for one in values):
        raise BadSiteConfig(f"{where} must be at most {_VALUE_MAX_CHARACTERS} printable characters")
    return value if isinstance(value, str) else list(dict.fromkeys(values))


def _tree(site: str, document: Document) -> Iterator[Entry]:
    yield _entry("", {"objectclass": "organization"})
    if document["vo"]:
        yield _entry("ou=Config", {"ou": "Config", "objectclass": "AliEnVOConfig", **document["vo"]})
    yield _branch("ou=Sites")
    if document["site"]:
        top = f"ou={site},ou=Sites"
        yield _entry(top, {"ou": site, "objectclass": "AliEnSite", **document["site"]})
        for branch in ("ou=Config", "ou=Services", "ou=CE,ou=Services", "ou=MonaLisa,ou=Services"):
            yield _branch(f"{branch},{top}")
        for section, (key, branch, kind) in _BELOW_SITE.items():
            for name, attributes in document[section].items():
                yield _entry(f"{key}={name},{branch},{top}", {key: name, "objectclass": kind, **attributes})
    for section, (key, branch, kind) in _BELOW_ROOT.items():
        yield _branch(branch)
        for name, attributes in document[section].items():
            yield _entry(f"{key}={name},{branch}", {key: name, "objectclass": kind, **attributes})


def _branch(dn: str) -> Entry:
    return _entry(dn, {"ou": dn.partition(",")[0].removeprefix("ou="), "objectclass": "organizationalUnit"})


def _entry(dn: str, attributes: Mapping[str, Any]) -> Entry:
    return Entry(dn, {name: (value,) if isinstance(value, str) else tuple(value) for name, value in attributes.items()})

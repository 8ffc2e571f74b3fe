"""LDAPInfoRequest and LDAPTreeRequest: how a CE of the 2024 generation reads its site's configuration."""

from tests.world.central_services.directory import Directory
from tests.world.central_services.java_classes import hash_map, tree_set
from tests.world.central_services.java_nodes import Instance, Text
from tests.world.central_services.java_values import null_pointer, text_of

INFO, TREE = "alien.api.LDAPInfoRequest", "alien.api.LDAPTreeRequest"


def info(request: Instance, directory: Directory) -> None:
    """Fills in the set of one attribute's values. Raises Thrown."""
    key = text_of(request, "sKey")
    if key is None:
        raise null_pointer('Cannot invoke "String.equals(Object)" because "sKey" is null', (INFO, "run", 56))
    wanted, root_extension = _query(request, INFO)
    recursive = bool(request.fields["recursive"])
    request.fields["ret"] = tree_set(directory.values(wanted, root_extension, key, recursive=recursive))


def tree(request: Instance, directory: Directory) -> None:
    """Fills in the map of all attributes: a single value as String, several as TreeSet. Raises Thrown."""
    wanted, root_extension = _query(request, TREE)
    found = directory.attributes(wanted, root_extension, text_of(request, "prependKey") or "")
    request.fields["ret"] = hash_map(
        (Text(name), Text(values[0]) if len(values) == 1 else tree_set(values)) for name, values in found.items()
    )


def _query(request: Instance, name: str) -> tuple[str, str]:
    wanted = text_of(request, "sParam")
    if wanted is None:
        raise null_pointer('Cannot invoke "String.length()" because "filter" is null', (name, "run", 51))
    root_extension = text_of(request, "sRootExt")
    # Java writes an absent base as the text `null` before the root, which is no entry.
    return wanted, "null" if root_extension is None else root_extension

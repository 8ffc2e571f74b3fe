"""Whom a request says it comes from: central services believe it, look its roles up, and let it change roles."""

import datetime as dt

from tests.world.central_services.directory import Directory
from tests.world.central_services.java_classes import linked_set, members
from tests.world.central_services.java_errors import Thrown
from tests.world.central_services.java_nodes import Instance, StreamFault, Text, Value, literal
from tests.world.central_services.java_values import held

PRINCIPAL = "alien.user.AliEnPrincipal"


def authorize(request: Instance, directory: Directory) -> None:
    """Fills the principals' roles in, and acts as the real user asks to where that is allowed. Raises Thrown."""
    uid, ruid = (_principal(request, name, directory) for name in ("requester_uid", "requester_ruid"))
    _principal(request, "requester_euid", directory)
    wanted = held(ruid, "username")
    if uid is not ruid and isinstance(wanted, Text) and can_become(uid, wanted.value):
        request.fields["requester_euid"] = ruid


def can_become(principal: Value, role: str) -> bool:
    """Whether the principal is, or may act as, this account or role."""
    names = {name.value for name in members(held(principal, "sUsernames")) if isinstance(name, Text)}
    roles = {name.value for name in members(held(principal, "roles")) if isinstance(name, Text)}
    return role == "users" or role in names or role in roles or "admin" in roles


def _principal(request: Instance, name: str, directory: Directory) -> Instance:
    principal = request.fields[name]
    if not isinstance(principal, Instance):
        message = f'Cannot invoke "alien.user.AliEnPrincipal.canBecome(String)" because "this.{name}" is null'
        raise Thrown("java.lang.NullPointerException", message)
    if principal.desc.name != PRINCIPAL:
        raise StreamFault(f"{name} is no principal")
    if principal.fields["roles"] is None:
        _fill_roles(principal, directory)
    return principal


def _fill_roles(principal: Instance, directory: Directory) -> None:
    names = [n for n in members(principal.fields["sUsernames"]) if isinstance(n, Text)]
    username = principal.fields["username"]
    if not names and isinstance(username, Text):
        names = [username]
    roles = [*names, *(literal(role) for name in names for role in directory.roles_of(name.value))]
    principal.fields["roles"] = linked_set(roles)
    principal.fields["defaultRole"] = roles[0] if roles else None
    principal.fields["lRolesChecked"] = int(dt.datetime.now(dt.UTC).timestamp() * 1000)

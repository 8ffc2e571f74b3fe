"""What the Java objects of a request mean: texts, numbers, lists, and the errors of code that expects others."""

from tests.world.central_services.java_classes import members
from tests.world.central_services.java_errors import Thrown
from tests.world.central_services.java_nodes import Instance, Node, StreamFault, Text, Value

Plain = str | int | float | list["Plain"] | None


def text_of(request: Instance, name: str) -> str | None:
    """A field that is declared as String. Raises StreamFault when it holds something else."""
    value = request.fields[name]
    if isinstance(value, Text):
        return value.value
    if value is None:
        return None
    raise StreamFault(f"{name} is not a String")


def held(node: Value, name: str) -> Node:
    """The object in a field, None when there is none."""
    value = node.fields.get(name) if isinstance(node, Instance) else None
    return None if isinstance(value, int | float) else value


def plain(node: Node) -> Plain:
    """A String, Integer, Long or collection as Python has it. Raises StreamFault for what no site map holds."""
    if node is None:
        return None
    if isinstance(node, Text):
        return node.value
    if isinstance(node, Instance):
        if node.desc.name in ("java.lang.Integer", "java.lang.Long"):
            value = node.fields["value"]
            return value if isinstance(value, int) else None
        if {"java.util.ArrayList", "java.util.HashSet", "java.util.TreeSet"} & node.annotations.keys():
            return [plain(item) for item in members(node)]
    raise StreamFault("a value in a site map is neither text, number nor list")


def null_pointer(what: str, *frames: tuple[str, str, int]) -> Thrown:
    """The error of a virtual machine that was to use nothing."""
    return Thrown("java.lang.NullPointerException", what, *frames)


def wrong_class(value: Plain, wanted: str) -> Thrown:
    """The error of a cast to the class `wanted` that `value` is not."""
    found = {str: "java.lang.String", int: "java.lang.Integer", list: "java.util.ArrayList"}.get(type(value), "?")
    text = f"class {found} cannot be cast to class {wanted} ({found} and {wanted} are in module java.base of loader"
    return Thrown("java.lang.ClassCastException", f"{text} 'bootstrap')")

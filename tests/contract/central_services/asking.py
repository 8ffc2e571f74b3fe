"""Requests beyond the recorded ones, made from a recorded one's principals."""

from collections.abc import Mapping

from tests.contract.central_services.conftest import Central, recorded
from tests.world.central_services.java_classes import CLASSES, array_list, entries, hash_map, integer, members
from tests.world.central_services.java_nodes import STREAM_HEADER, Instance, Node, Text, Value
from tests.world.central_services.java_reader import StreamReader
from tests.world.central_services.java_writer import StreamWriter

Asked = Mapping[str, "str | int | list[str] | None"]


def request(name: str, **fields: Value) -> Instance:
    """A request of class `alien.api.<name>`; a field given as str becomes a String."""
    (sent,) = StreamReader().feed(recorded("freeslots-ok", "c2s"))
    assert isinstance(sent, Instance)
    desc = CLASSES[f"alien.api.{name}"]
    inherited = {field.name: sent.fields[field.name] for field in CLASSES["alien.api.Request"].fields}
    return Instance(desc, inherited | {field.name: None for field in desc.fields} | fields)


def site_map(asked: Asked) -> Instance:
    """GetNumberWaitingJobs with this map."""
    return request(
        "taskQueue.GetNumberWaitingJobs", matchRequest=hash_map((Text(k), node(v)) for k, v in asked.items())
    )


def info(wanted: str | None, root: str | None, key: str | None, *, recursive: bool = True) -> Instance:
    """LDAPInfoRequest."""
    fields: dict[str, Value] = {"sParam": node(wanted), "sRootExt": node(root), "sKey": node(key)}
    return request("LDAPInfoRequest", recursive=recursive, **fields)


def tree(wanted: str | None, root: str | None, prefix: str | None = None) -> Instance:
    """LDAPTreeRequest."""
    return request("LDAPTreeRequest", sParam=node(wanted), sRootExt=node(root), prependKey=node(prefix))


def answers(central: Central, *requests: Instance) -> list[Instance]:
    """The replies to requests on one connection; fewer when the server closes."""
    writer = StreamWriter()
    return central.replies(STREAM_HEADER + b"".join(map(writer.write, requests)), len(requests))[1]


def node(value: str | int | list[str] | None) -> Node:
    """A Java object for a Python one."""
    if isinstance(value, str):
        return Text(value)
    if isinstance(value, list):
        return array_list(map(Text, value))
    return None if value is None else integer(value)


def python(value: Value) -> object:
    """A Python object for a Java one: maps, collections, numbers and texts."""
    if isinstance(value, Text):
        return value.value
    if isinstance(value, Instance):
        if value.desc.name.endswith("Map"):
            return {python(key): python(held) for key, held in entries(value)}
        if "value" in value.fields:
            return value.fields["value"]
        if value.annotations:
            return [python(held) for held in members(value)]
        return dict(value.fields)
    return value


def message(reply: Instance) -> str | None:
    """The text of a reply's exception, None when it has none."""
    exception = reply.fields["exception"]
    if not isinstance(exception, Instance):
        return None
    text = exception.fields["detailMessage"]
    assert isinstance(text, Text)
    return text.value

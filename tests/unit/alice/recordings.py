"""The recorded sessions with real central services, and their requests as typed values."""

import json
import uuid
from pathlib import Path
from typing import Any

from libs.alice import java_values
from libs.alice.java_values import Plain
from libs.alice.nodes import Array, Enumerator, Instance, TopLevel, Value
from libs.alice.reader import Reader
from libs.alice.requests import FreeSlotsRequest, Principal, Request, TokenRequest, WaitingJobsRequest

FOLDER = Path(__file__).parents[2] / "vectors" / "jalien"
NAMES = sorted(path.name.removesuffix(".c2s.bin") for path in FOLDER.glob("*.c2s.bin"))


def sent(name: str) -> bytes:
    """What the real client sent."""
    return (FOLDER / f"{name}.c2s.bin").read_bytes()


def answered(name: str) -> bytes:
    """What the real server sent."""
    return (FOLDER / f"{name}.s2c.bin").read_bytes()


def notes(name: str) -> list[dict[str, Any]]:
    """What the recording says about each message."""
    found: list[dict[str, Any]] = json.loads((FOLDER / f"{name}.json").read_text())["messages"]
    return found


def objects(data: bytes) -> list[TopLevel]:
    """All objects of a recorded stream."""
    return Reader().feed(data)


def instances(data: bytes) -> list[Instance]:
    """All objects of a recorded stream, which are requests or replies."""
    found = objects(data)
    return [item for item in found if isinstance(item, Instance)]


def text(value: Value) -> str:
    found = java_values.text_of(value)
    assert found is not None
    return found


def principal(request: Instance) -> Principal:
    node = request.get("requester_uid")
    assert isinstance(node, Instance)
    chain = node.get("usercert")
    assert isinstance(chain, Array)
    return Principal(
        text(node.get("username")),
        tuple(java_values.bytes_of(item.get("data")) for item in chain.items if isinstance(item, Instance)),
    )


def vm_uuid(request: Instance) -> uuid.UUID:
    node = request.get("vm_uuid")
    assert isinstance(node, Instance)
    most, least = node.get("mostSigBits"), node.get("leastSigBits")
    assert isinstance(most, int)
    assert isinstance(least, int)
    mask = (1 << 64) - 1
    return uuid.UUID(int=(most & mask) << 64 | (least & mask))


def plain_map(value: Value) -> dict[str, Plain]:
    found = java_values.map_of(value)
    assert found is not None
    return {key: str(item) if isinstance(item, str) else java_values.int_of(item) for key, item in found.items()}


def typed(request: Instance) -> Request:
    """The recorded request as the typed one that should give the same bytes."""
    if request.class_name.endswith("GetNumberFreeSlots"):
        port = request.get("port")
        assert isinstance(port, int)
        return FreeSlotsRequest(
            text(request.get("host")), text(request.get("ceName")), port, text(request.get("version"))
        )
    if request.class_name.endswith("GetNumberWaitingJobs"):
        return WaitingJobsRequest(plain_map(request.get("matchRequest")))
    days, kind = request.get("validity"), request.get("certificateType")
    assert isinstance(days, int)
    assert kind is None or (isinstance(kind, Enumerator) and kind.constant == "JOB_AGENT_TOKEN")
    return TokenRequest(text(request.get("requestedUser")), days, None if kind is None else "JOB_AGENT_TOKEN")

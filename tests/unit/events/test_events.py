"""The contract: subjects, additive messages, the rendered document."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from libs.events import asyncapi, subjects
from libs.events.messages import DemandObserved

ROOT = Path(__file__).parents[3]


def test_subjects() -> None:
    """Scope, noun, past participle; the relay's suffix where there is one and only there."""
    assert subjects.DEMAND_OBSERVED.subject("cpu") == "nacre.v1.cpu.demand.observed"
    assert subjects.MONITORING_RECEIVED.subject("site", "r1") == "nacre.v1.site.monitoring.received.r1"
    assert subjects.MONITORING_RECEIVED.pattern == "nacre.v1.*.monitoring.received.*"
    with pytest.raises(ValueError, match="needs suffix"):
        subjects.MONITORING_RECEIVED.subject("site")
    with pytest.raises(ValueError, match="has no suffix"):
        subjects.DEMAND_OBSERVED.subject("cpu", "x")


def test_messages_are_additive() -> None:
    """A reader ignores fields it does not know, and fills in those an older writer did not send."""
    raw = {"at": "2026-11-23T12:00:00Z", "by": "queue_poller/1", "ce": "cpu", "of_tomorrow": 1}
    decoded = msgspec.json.decode(json.dumps(raw), type=DemandObserved)
    assert decoded.waiting is None
    assert decoded.at == datetime(2026, 11, 23, 12, tzinfo=UTC)


def test_instants_are_utc_in_json() -> None:
    """Instants are written with their zone."""
    message = DemandObserved(at=datetime(2026, 11, 23, 12, tzinfo=UTC), by="x/1", ce="cpu")
    assert b'"at":"2026-11-23T12:00:00Z"' in msgspec.json.encode(message)


def references(node: Any) -> list[str]:
    if isinstance(node, dict):
        found = [node["$ref"]] if "$ref" in node else []
        return found + [one for inner in node.values() for one in references(inner)]
    if isinstance(node, list):
        return [one for inner in node for one in references(inner)]
    return []


def test_document_is_whole() -> None:
    """Every reference in the AsyncAPI document leads somewhere, and every address parameter is described."""
    document = asyncapi.document("0")
    for reference in references(document):
        node: Any = document
        parts = reference.removeprefix("#/").split("/")
        for part in parts:
            node = node[part]
    for channel in document["channels"].values():
        assert all(f"{{{name}}}" in channel["address"] for name in channel["parameters"])


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The module writes the document, prints the table, and refuses the rest."""
    assert asyncapi.main([str(tmp_path / "a/b.json")]) == 0
    assert json.loads((tmp_path / "a/b.json").read_text())["asyncapi"] == "3.0.0"
    assert asyncapi.main(["--table"]) == 0
    assert asyncapi.table() in capsys.readouterr().out
    assert asyncapi.main([]) == 2


def released() -> list[Path]:
    return sorted((ROOT / "deploy/asyncapi").glob("[0-9]*.json"))


@pytest.mark.parametrize("path", released(), ids=lambda path: path.name)
def test_additive_since_each_release(path: Path) -> None:
    """No released message lost a field, changed a field's type, or gained a required one."""
    old = json.loads(path.read_text())["components"]["schemas"]
    new = asyncapi.document("0")["components"]["schemas"]
    for name, schema in old.items():
        for field, kind in schema.get("properties", {}).items():
            assert new[name]["properties"][field].get("type") == kind.get("type"), f"{name}.{field}"
        assert set(new[name].get("required", [])) <= set(schema.get("required", [])), name

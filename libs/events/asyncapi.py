"""The AsyncAPI 3 document of the bus, rendered from the table and the messages.

    python -m libs.events.asyncapi FILE          write the document
    python -m libs.events.asyncapi --table       print the table of README.md

https://www.asyncapi.com/docs/reference/specification/v3.0.0
"""

import json
import sys
from pathlib import Path
from typing import Any

import msgspec

from libs.events import subjects
from libs.events.rows import Bucket, Topic


def document(version: str) -> dict[str, Any]:
    """The whole document; `version` is the project's."""
    types = [topic.message for topic in subjects.TOPICS if topic.message is not None]
    records = [bucket.record for bucket in subjects.BUCKETS]
    _, schemas = msgspec.json.schema_components([*types, *records], ref_template="#/components/schemas/{name}")
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    for topic in subjects.TOPICS:
        channels[topic.name] = _channel(topic)
        reference = {"$ref": f"#/channels/{topic.name}"}
        operations[f"{topic.writer}.send.{topic.name}"] = {"action": "send", "channel": reference}
        for reader in topic.readers:
            operations[f"{reader}.receive.{topic.name}"] = {"action": "receive", "channel": reference}
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Nacre's bus", "version": version, "description": (subjects.__doc__ or "").strip()},
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {"schemas": schemas},
        "x-nacre-buckets": [_bucket(bucket) for bucket in subjects.BUCKETS],
    }


def _channel(topic: Topic[Any]) -> dict[str, Any]:
    parameters = {
        "scope": {
            "description": {"ce": "the CE's short name", "machine": "the machine's name"}.get(topic.scope, "`site`")
        }
    }
    if topic.suffix:
        parameters[topic.suffix] = {"description": f"the {topic.suffix}'s name"}
    message: dict[str, Any] = {"name": topic.name, "summary": topic.meaning}
    if topic.message is None:
        message |= {"contentType": "application/octet-stream", "payload": {"type": "string", "format": "binary"}}
    else:
        message |= {"payload": {"$ref": f"#/components/schemas/{topic.message.__name__}"}}
    return {
        "address": topic.subject("{scope}", f"{{{topic.suffix}}}" if topic.suffix else ""),
        "messages": {topic.name: message},
        "parameters": parameters,
        "x-nacre-stream": topic.stream.name,
        "x-nacre-kept": topic.stream.kept,
    }


def _bucket(bucket: Bucket[Any]) -> dict[str, Any]:
    return {
        "name": bucket.name,
        "key": bucket.key,
        "record": {"$ref": f"#/components/schemas/{bucket.record.__name__}"},
        "writers": list(bucket.writers),
        "readers": list(bucket.readers),
        "meaning": bucket.meaning,
    }


def table() -> str:
    """The subjects and buckets as the Markdown table of README.md."""
    rows = ["| subject or bucket | kept as | writer | readers | meaning |", "|---|---|---|---|---|"]
    for topic in subjects.TOPICS:
        readers = ", ".join(topic.readers)
        rows.append(f"| `{topic.name}` | {topic.stream.kept} | {topic.writer} | {readers} | {topic.meaning} |")
    for bucket in subjects.BUCKETS:
        writers = "each service its own keys" if len(bucket.writers) > 1 else bucket.writers[0]
        readers = "all" if bucket.readers == subjects.SERVICES else ", ".join(bucket.readers)
        rows.append(f"| bucket `{bucket.name}` | `{bucket.key}` | {writers} | {readers} | {bucket.meaning} |")
    return "\n".join(rows) + "\n"


def render(version: str) -> str:
    """The document as the text that is committed."""
    return json.dumps(document(version), indent=1, sort_keys=True) + "\n"


def main(arguments: list[str]) -> int:
    """Write the document to a file, or print the table."""
    if arguments == ["--table"]:
        sys.stdout.write(table())
        return 0
    if len(arguments) != 1 or arguments[0].startswith("-"):
        sys.stderr.write(__doc__ or "")
        return 2
    from importlib.metadata import version

    path = Path(arguments[0])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render(version("nacre")))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

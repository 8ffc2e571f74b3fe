"""Who may publish and subscribe what on NATS, derived from the table of subjects and buckets. Pure.

A writer may publish its own subjects and keys, a reader may read what the table gives it, and nobody anything else.
Reading a stream goes through JetStream's API, whose subjects name the stream and, for a consumer, its filter:
https://docs.nats.io/reference/reference-protocols/nats_api_reference
"""

from collections.abc import Collection, Iterable
from typing import Any

import msgspec

from libs.events import subjects
from libs.events.rows import Topic

API = "$JS.API"
ADMINISTRATOR, VIEWER = "administrator", "viewer"
USERS = (*subjects.SERVICES, VIEWER, ADMINISTRATOR)


class Permissions(msgspec.Struct, frozen=True, kw_only=True):
    """Subjects, with NATS' wildcards, that one user may publish and subscribe. All else is denied."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


def of(user: str) -> Permissions:
    """The permissions of a service, of `viewer` (reads everything, writes nothing) or of `administrator` (all).

    The administrator runs `nacre bus init`, backs up and restores.
    """
    if user == ADMINISTRATOR:
        return Permissions(publish=(">",), subscribe=(">",))
    topics = [topic for topic in subjects.TOPICS if user == VIEWER or user in topic.readers]
    buckets = [bucket for bucket in subjects.BUCKETS if user == VIEWER or user in (*bucket.readers, *bucket.writers)]
    publish = [*_reading(topics), *(line for one in buckets for line in _bucket(one.name))]
    if user in (VIEWER, subjects.OPERATOR_CONSOLE):
        publish.append("$SRV.*")
    publish += [topic.pattern for topic in subjects.TOPICS if topic.writer == user]
    publish += [
        f"$KV.{bucket.name}.{f'{user}.' if len(bucket.writers) > 1 else ''}>"
        for bucket in subjects.BUCKETS
        if user in bucket.writers
    ]
    for stream in subjects.STREAMS:
        # What lived in memory went with its server: only its writer can notice, and makes it again.
        if stream.kept == "memory" and any(t.stream == stream and t.writer == user for t in subjects.TOPICS):
            publish += [f"{API}.STREAM.INFO.{subjects.LATEST.name}", f"{API}.STREAM.INFO.{stream.name}"]
            publish.append(f"{API}.STREAM.CREATE.{stream.name}")
    subscribe = [f"_INBOX_{user}.>", "$SRV.>", *(topic.pattern for topic in topics)]
    if user == VIEWER:
        # A person's NATS CLI takes NATS' own inbox.
        subscribe += ["_INBOX.>", *(f"$KV.{bucket.name}.>" for bucket in buckets)]
        publish += [f"{API}.INFO", f"{API}.STREAM.NAMES", f"{API}.STREAM.LIST"]
    return Permissions(publish=_once(publish), subscribe=_once(subscribe))


def _reading(topics: Collection[Topic[Any]]) -> list[str]:
    lines: list[str] = []
    for topic in topics:
        stream = topic.stream.name
        lines += [
            f"{API}.STREAM.INFO.{stream}",
            f"{API}.CONSUMER.CREATE.{stream}.*.{topic.pattern}",
            *_consuming(stream),
        ]
        if topic.stream.kept == "latest":
            lines.append(f"{API}.DIRECT.GET.{stream}.{topic.pattern}")
    names = {topic.name for topic in topics}
    for whole in subjects.STREAMS:
        if names >= {topic.name for topic in subjects.TOPICS if topic.stream == whole}:
            lines += [f"{API}.CONSUMER.CREATE.{whole.name}", f"{API}.CONSUMER.CREATE.{whole.name}.>"]
            lines.append(f"{API}.DIRECT.GET.{whole.name}.>")
    return lines


def _bucket(name: str) -> list[str]:
    stream = f"KV_{name}"
    return [
        f"{API}.STREAM.INFO.{stream}",
        f"{API}.STREAM.MSG.GET.{stream}",
        f"{API}.DIRECT.GET.{stream}.>",
        f"{API}.CONSUMER.CREATE.{stream}",
        f"{API}.CONSUMER.CREATE.{stream}.>",
        *_consuming(stream),
    ]


def _consuming(stream: str) -> list[str]:
    return [
        f"{API}.CONSUMER.INFO.{stream}.*",
        f"{API}.CONSUMER.DELETE.{stream}.*",
        f"{API}.CONSUMER.MSG.NEXT.{stream}.*",
        f"$JS.ACK.{stream}.>",
        f"$JS.FC.{stream}.>",
    ]


def _once(lines: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(dict.fromkeys(lines)))


def rendered(keys: dict[str, list[str]], system_key: str) -> str:
    """The `accounts` block of nats-server's configuration for users' public nkeys (several while one is rotated)."""
    lines = [
        "# Written by `nacre bus accounts` from the table of subjects and buckets. Public keys only.",
        "accounts {",
    ]
    lines += ["  NACRE {", "    jetstream: enabled", "    users: ["]
    for user, public_keys in sorted(keys.items()):
        permissions = of(user)
        for key in public_keys:
            lines += [
                f"      # {user}",
                f"      {{ nkey: {key}, permissions: {{",
                f"        publish: {{ allow: [{_quoted(permissions.publish)}] }},",
                f"        subscribe: {{ allow: [{_quoted(permissions.subscribe)}] }},",
                '        allow_responses: { max: 1, expires: "10s" } } }',
            ]
    lines += ["    ]", "  }", f"  SYS {{ users: [ {{ nkey: {system_key} }} ] }}", "}", "system_account: SYS"]
    return "\n".join(lines) + "\n"


def _quoted(lines: Iterable[str]) -> str:
    return ", ".join(f'"{line}"' for line in lines)

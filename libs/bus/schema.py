"""Create and migrate the streams and buckets of the table: `nacre bus init`. Services never do."""

from typing import Any

import msgspec
import nats.js.errors
from nats.js import JetStreamContext, api

from libs.bus.translate import translated
from libs.events import subjects
from libs.events.rows import Bucket, Stream

DEDUPLICATION_S = 120.0


class Change(msgspec.Struct, frozen=True):
    """What `initialise` did with one stream or bucket: created, changed (which settings), or nothing."""

    name: str
    action: str
    detail: str = ""


def stream_config(stream: Stream, replicas: int) -> api.StreamConfig:
    """The JetStream configuration of one stream of the table."""
    return api.StreamConfig(
        name=stream.name,
        description=f"nacre {stream.kept}",
        subjects=sorted(topic.pattern for topic in subjects.TOPICS if topic.stream.name == stream.name),
        retention=api.RetentionPolicy.LIMITS,
        discard=api.DiscardPolicy.OLD,
        storage=api.StorageType.MEMORY if stream.kept == "memory" else api.StorageType.FILE,
        max_bytes=stream.max_bytes,
        max_age=float(stream.max_age_s),
        max_msgs_per_subject=stream.max_per_subject or -1,
        num_replicas=replicas,
        allow_direct=True,
        duplicate_window=DEDUPLICATION_S,
    )


def bucket_config(bucket: Bucket[Any], replicas: int) -> api.StreamConfig:
    """The JetStream configuration of one bucket, in the layout of NATS key-value stores."""
    return api.StreamConfig(
        name=f"KV_{bucket.name}",
        description=f"nacre bucket: {bucket.meaning}",
        subjects=[f"$KV.{bucket.name}.>"],
        retention=api.RetentionPolicy.LIMITS,
        discard=api.DiscardPolicy.OLD if bucket.forgets else api.DiscardPolicy.NEW,
        storage=api.StorageType.FILE,
        max_bytes=bucket.max_bytes,
        max_age=float(bucket.ttl_s),
        max_msgs_per_subject=1,
        num_replicas=replicas,
        allow_direct=True,
        allow_rollup_hdrs=True,
        deny_delete=True,
        duplicate_window=min(DEDUPLICATION_S, float(bucket.ttl_s or DEDUPLICATION_S)),
    )


async def initialise(js: JetStreamContext, replicas: int) -> list[Change]:
    """Bring every stream and bucket to what the table says. Deletes nothing; a second run changes nothing."""
    wanted = [stream_config(stream, replicas) for stream in subjects.STREAMS]
    wanted += [bucket_config(bucket, replicas) for bucket in subjects.BUCKETS]
    return [await _bring_to(js, config) for config in wanted]


async def restore_memory_streams(js: JetStreamContext, replicas: int) -> None:
    """Make again the streams that live in memory and went with their server, which only their writers can notice.

    Everything else is left to `nacre bus init`: Unreachable says so when that never ran.
    """
    with translated(f"stream {subjects.LATEST.name}"):
        await js.stream_info(subjects.LATEST.name)
    for stream in subjects.STREAMS:
        if stream.kept == "memory":
            with translated(f"stream {stream.name}"):
                try:
                    await js.stream_info(stream.name)
                except nats.js.errors.NotFoundError:
                    await js.add_stream(stream_config(stream, replicas))


async def _bring_to(js: JetStreamContext, config: api.StreamConfig) -> Change:
    name = config.name or ""
    with translated(f"stream {name}"):
        try:
            info = await js.stream_info(name)
        except nats.js.errors.NotFoundError:
            await js.add_stream(config)
            return Change(name, "created")
        different = _differences(info.config, config)
        if not different:
            return Change(name, "unchanged")
        # What the server added by itself (metadata, placement) stays as it is: only our settings are laid over it.
        await js.update_stream(info.config.evolve(**{key: getattr(config, key) for key in different}))
        return Change(name, "changed", ", ".join(sorted(different)))


def _differences(found: api.StreamConfig, wanted: api.StreamConfig) -> list[str]:
    ours = (
        "description",
        "subjects",
        "max_bytes",
        "max_age",
        "max_msgs_per_subject",
        "num_replicas",
        "duplicate_window",
        "discard",
    )
    return [key for key in ours if _plain(getattr(found, key)) != _plain(getattr(wanted, key))]


def _plain(setting: Any) -> Any:
    return sorted(setting) if isinstance(setting, list) else setting

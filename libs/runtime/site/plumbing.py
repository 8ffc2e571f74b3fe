"""The bus and the telemetry."""

from typing import Annotated

from msgspec import Meta

from libs.runtime.site.kinds import Address, Seconds, Table


class Bus(Table, frozen=True, kw_only=True):
    """NATS: where, how long a first connection may take, and how many copies streams and buckets have."""

    url: str = "nats://127.0.0.1:4222"
    connect_patience_s: Seconds = 30.0
    replicas: Annotated[int, Meta(ge=1, le=5)] = 1


class Telemetry(Table, frozen=True, kw_only=True):
    """The small HTTP port of each service, and an OpenTelemetry collector if there is one."""

    http_listen: Address = "0.0.0.0:8080"
    otlp_endpoint: str = ""

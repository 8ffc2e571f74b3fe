"""OpenTelemetry traces and metrics; the same metrics as Prometheus text. Exporters load only when needed."""

import contextlib
from collections.abc import Iterator

import prometheus_client
from opentelemetry import metrics, trace
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider


def prometheus_text() -> bytes:
    """All metrics of this process in Prometheus' text format."""
    return prometheus_client.generate_latest()


@contextlib.contextmanager
def collecting(service: str, instance: str, otlp_endpoint: str = "") -> Iterator[None]:
    """Collect traces and metrics until left; sends them to the collector at `otlp_endpoint` when one is named."""
    resource = Resource.create({"service.name": f"nacre.{service}", "service.instance.id": instance})
    readers: list[MetricReader] = [PrometheusMetricReader()]
    tracers = TracerProvider(resource=resource)
    if otlp_endpoint:
        # The exporter costs 15 MB of memory, so only who has a collector pays for it.
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        endpoint = otlp_endpoint.rstrip("/")
        readers.append(PeriodicExportingMetricReader(OTLPMetricExporter(endpoint=f"{endpoint}/v1/metrics")))
        tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces")))
    meters = MeterProvider(metric_readers=readers, resource=resource)
    trace.set_tracer_provider(tracers)
    metrics.set_meter_provider(meters)
    try:
        yield
    finally:
        tracers.shutdown()
        meters.shutdown()

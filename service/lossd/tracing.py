"""Traces of requests, by OpenTelemetry: a span in the front end, and one for each slice in a worker.

OpenTelemetry's own variables (``OTEL_EXPORTER_OTLP_ENDPOINT`` and the like) configure the exporter. A thread
sends spans in batches; if nobody takes them they are dropped, and no request waits. OpenTelemetry is imported
only if there are traces.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from lossd.types import Timings

if TYPE_CHECKING:
    from opentelemetry.trace import Span

_NEEDED: Final = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http.trace_exporter")
_FLUSH_SECONDS: Final = 2.0
_HEADERS: Final = ("traceparent", "tracestate")


def is_installed() -> bool:
    """Return whether OpenTelemetry is installed."""
    try:
        return all(find_spec(name) is not None for name in _NEEDED)
    except ModuleNotFoundError:
        return False


class Tracing:
    """The spans of one process.

    Args:
        process: The kind of process.
        number: Its number among its kind.
    """

    def __init__(self, process: str, number: int) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        named = "OTEL_SERVICE_NAME" in os.environ or "service.name=" in os.environ.get(
            "OTEL_RESOURCE_ATTRIBUTES", ""
        )
        itself: dict[str, str | int] = {"lossd.process": process, "lossd.number": number}
        resource = Resource.create(itself if named else {"service.name": "lossd", **itself})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("lossd")
        self._contexts = TraceContextTextMapPropagator()

    def begin_request(self, name: str, headers: Mapping[str, str]) -> tuple[Span, str]:
        """Begin the span of a request.

        Args:
            name: The loss's path.
            headers: The request's headers; the span continues the caller's trace, if they name one.

        Returns:
            The span, and its context for the slices.
        """
        from opentelemetry.trace import SpanKind, set_span_in_context

        parent = self._contexts.extract({key: headers[key] for key in _HEADERS if key in headers})
        span = self._tracer.start_span(f"POST {name}", parent, SpanKind.SERVER)
        carrier: dict[str, str] = {}
        self._contexts.inject(carrier, set_span_in_context(span))
        return span, carrier.get("traceparent", "")

    def end_request(
        self,
        span: Span,
        attributes: Mapping[str, str | int],
        seconds: Timings | None,
        *,
        failed: bool,
    ) -> None:
        """End the span of a request.

        Args:
            span: The span.
            attributes: The request's attributes.
            seconds: Its timings, if it was scored.
            failed: Whether it failed by the server's fault.
        """
        from opentelemetry.trace import StatusCode, set_span_in_context

        span.set_attributes(dict(attributes))
        if failed:
            span.set_status(StatusCode.ERROR)
        ended = time.time_ns()
        if seconds is not None:
            start, parent = ended - int(1e9 * sum(seconds)), set_span_in_context(span)
            for stage, length in zip(("read", "queue", "compute"), seconds, strict=True):
                child = self._tracer.start_span(stage, parent, start_time=start)
                start += int(1e9 * length)
                child.end(start)
        span.end(ended)

    def record_slice(
        self, trace: str, seconds: float, attributes: Mapping[str, str | int], *, failed: bool
    ) -> None:
        """Record the span of a slice that has just been answered.

        Args:
            trace: The context of its request's span; empty for none.
            seconds: Seconds of computing.
            attributes: The slice's attributes.
            failed: Whether it could not be scored.
        """
        if not trace:
            return
        from opentelemetry.trace import StatusCode

        ended = time.time_ns()
        parent = self._contexts.extract({"traceparent": trace})
        span = self._tracer.start_span("slice", parent, start_time=ended - int(1e9 * seconds))
        span.set_attributes(dict(attributes))
        if failed:
            span.set_status(StatusCode.ERROR)
        span.end(ended)

    def close(self) -> None:
        """Send the remaining spans, for at most two seconds."""
        last = threading.Thread(target=self._provider.shutdown, daemon=True)
        last.start()
        last.join(_FLUSH_SECONDS)

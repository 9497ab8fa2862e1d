"""Traces of requests, by OpenTelemetry: a span in the front end, and one for each slice in a worker.

OpenTelemetry's own variables (``OTEL_EXPORTER_OTLP_ENDPOINT`` and the like) configure the exporter. A thread
sends spans in batches; if nobody takes them they are dropped, and no request waits. OpenTelemetry is imported
only if there are traces.

Spans are made when they are over, of times that were measured by time.monotonic(), which all processes of a
machine share. What turns these into times of day is read once for each request, so that none of its spans
lies outside of the one that it belongs to.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from lossd import __version__

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer

_NEEDED: Final = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http.trace_exporter")
_FLUSH_SECONDS: Final = 2.0
_HEADERS: Final = ("traceparent", "tracestate")


def is_installed() -> bool:
    """Return whether OpenTelemetry is installed."""
    try:
        return all(find_spec(name) is not None for name in _NEEDED)
    except ModuleNotFoundError:
        return False


class RequestSpan:
    """The span of one request.

    Args:
        tracer: OpenTelemetry's tracer.
        route: The request's path.
        began: When its head had arrived, by time.monotonic().
        headers: Its headers; the span continues the caller's trace, if they name one.
    """

    def __init__(self, tracer: Tracer, route: str, began: float, headers: Mapping[str, str]) -> None:
        from opentelemetry.trace import SpanKind, set_span_in_context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        contexts = TraceContextTextMapPropagator()
        self._tracer = tracer
        self._day = _day()
        parent = contexts.extract({key: headers[key] for key in _HEADERS if key in headers})
        start, name = self._at(began), f"POST {route}"
        self._span: Span = tracer.start_span(name, parent, SpanKind.SERVER, start_time=start)
        self._context = set_span_in_context(self._span)
        carrier: dict[str, str] = {}
        contexts.inject(carrier, self._context)
        sampled = self._span.get_span_context().trace_flags.sampled
        self.slices: Final = f"{carrier['traceparent']} {self._day}" if sampled else ""
        """The context of the spans of its slices."""

    def end(
        self,
        attributes: Mapping[str, str | int],
        stages: Mapping[str, tuple[float, float]],
        *,
        error: str | None,
    ) -> None:
        """End the span: the answer has been written.

        Args:
            attributes: The request's attributes.
            stages: When each stage began and ended, by time.monotonic().
            error: What failed, if the server is to blame or nothing was answered.
        """
        from opentelemetry.trace import StatusCode

        if not self._span.is_recording():
            return
        self._span.set_attributes(dict(attributes))
        if error is not None:
            self._span.set_attribute("error.type", error)
            self._span.set_status(StatusCode.ERROR)
        for stage, (began, ended) in stages.items():
            child = self._tracer.start_span(stage, self._context, start_time=self._at(began))
            child.end(self._at(ended))
        self._span.end(self._at(time.monotonic()))

    def _at(self, seconds: float) -> int:
        return self._day + int(1e9 * seconds)


class Tracing:
    """The spans of one process.

    Args:
        process: The kind of process.
        number: Its number among its kind.

    Attributes:
        tracer: OpenTelemetry's tracer.
    """

    def __init__(self, process: str, number: int) -> None:
        import uuid  # here, so that workers without traces start faster

        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        named = "OTEL_SERVICE_NAME" in os.environ or "service.name=" in os.environ.get(
            "OTEL_RESOURCE_ATTRIBUTES", ""
        )
        itself: dict[str, str | int] = {
            "service.version": __version__,
            "service.instance.id": str(uuid.uuid4()),
            "lossd.process": process,
            "lossd.number": number,
        }
        resource = Resource.create(itself if named else {"service.name": "lossd", **itself})
        self._provider: TracerProvider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self.tracer: Final = self._provider.get_tracer("lossd", __version__)
        self._contexts = TraceContextTextMapPropagator()

    def record_slice(
        self, trace: str, began: float, seconds: float, attributes: Mapping[str, str | int], *, failed: bool
    ) -> None:
        """Record the span of a slice that has been answered.

        Args:
            trace: The context that its request's span gives its slices; empty for none.
            began: When computing began, by time.monotonic().
            seconds: Seconds of computing.
            attributes: The slice's attributes.
            failed: Whether it could not be scored.
        """
        if not trace:
            return
        from opentelemetry.trace import StatusCode

        context, _, day = trace.partition(" ")
        start = int(day) + int(1e9 * began)
        parent = self._contexts.extract({"traceparent": context})
        span = self.tracer.start_span("slice", parent, start_time=start)
        span.set_attributes(dict(attributes))
        if failed:
            span.set_status(StatusCode.ERROR)
        span.end(int(day) + int(1e9 * (began + seconds)))

    def close(self) -> None:
        """Send the remaining spans, for at most two seconds."""
        last = threading.Thread(target=self._provider.shutdown, daemon=True)
        last.start()
        last.join(_FLUSH_SECONDS)


def _day() -> int:
    """Return what must be added to time.monotonic(), in nanoseconds, to have the time of day."""
    return time.time_ns() - time.monotonic_ns()

"""The trace of OpenTelemetry that a request is part of."""

import sys
from collections.abc import Mapping
from typing import Final

_API: Final = "opentelemetry.trace"


def trace_headers() -> Mapping[str, str]:
    """Return `traceparent` and `tracestate` of the current span; empty without one.

    OpenTelemetry is not imported for it: a program that has not imported it has no span.
    """
    if _API not in sys.modules:
        return {}
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier

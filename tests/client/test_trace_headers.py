"""The caller's trace in requests, if there is one."""

import os
import subprocess
import sys

import numpy as np
import pytest

from client.conftest import Ask
from client.playback import Playback
from lossd_client import LossClient

X, Y = np.zeros((6, 4)), np.zeros((6, 4))


def test_without_opentelemetry_nothing_is_imported(playback: Playback) -> None:
    code = "import sys\nfrom lossd_client import LossClient\nLossClient().bce([0.0], [1.0])\n"
    code += "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    environment = {**os.environ, "LOSSD_BASE_URL": playback.url}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr
    assert "traceparent" not in playback.last.headers


def test_outside_of_spans_there_is_none(ask: Ask, playback: Playback) -> None:
    pytest.importorskip("opentelemetry.trace")
    ask(playback.url, "bce", X, Y)
    assert not {"traceparent", "tracestate"} & set(playback.last.headers)


def test_the_current_span_is_the_parent(ask: Ask, playback: Playback) -> None:
    trace = pytest.importorskip("opentelemetry.trace")
    state = trace.TraceState([("vendor", "x"), ("other", "y")])
    context = trace.SpanContext(
        0xABC, 0xDEF, is_remote=False, trace_flags=trace.TraceFlags(1), trace_state=state
    )
    with trace.use_span(trace.NonRecordingSpan(context)):
        for method, args in (("bce", (X, Y)), ("info", ()), ("ready", ())):
            ask(playback.url, method, *args)
            assert playback.last.headers["traceparent"] == f"00-{0xABC:032x}-{0xDEF:016x}-01"
            assert playback.last.headers["tracestate"] == "vendor=x,other=y"
        options = {"request_bytes": 150, "shrink_targets": False}  # other threads send
        ask(playback.url, "bce", X, Y, options=options)
        assert len({each.headers["traceparent"] for each in playback.arrivals}) == 1
        assert len(playback.arrivals) > 4


def test_one_that_is_given_wins(playback: Playback) -> None:
    trace = pytest.importorskip("opentelemetry.trace")
    given = f"00-{1:032x}-{2:016x}-01"
    context = trace.SpanContext(0xABC, 0xDEF, is_remote=False, trace_state=trace.TraceState([("a", "b")]))
    with (
        LossClient(playback.url, default_headers={"Traceparent": given}) as client,
        trace.use_span(trace.NonRecordingSpan(context)),
    ):
        client.bce(X, Y)
    assert playback.last.headers["traceparent"] == given
    assert "tracestate" not in playback.last.headers

"""Traces, as a collector receives them."""

from __future__ import annotations

import asyncio
import gzip
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from faults.asked import pair_body
from faults.raw import connect, talk
from live_server import live_server
from lossd import __version__
from lossd_client import AsyncLossClient, LossClient
from lossd_client.local import free_port
from teams_file import make_key, team_table, write_teams

pytest.importorskip("opentelemetry.sdk")
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanContext

NPY = "application/x-npy"
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Collector:
    """What was received, each span with the resource that it is of."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.found: list[tuple[dict[str, Any], Any]] = []

    def take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        for group in request.resource_spans:
            resource = attributes(group.resource)
            self.found += [(resource, span) for scope in group.scope_spans for span in scope.spans]


def attributes(of: Any) -> dict[str, Any]:  # noqa: ANN401
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in of.attributes}


@pytest.fixture
def collector() -> Iterator[Collector]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            found.take(gzip.decompress(body) if self.headers["content-encoding"] == "gzip" else body)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Collector(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


def within(inner: Any, outer: Any) -> bool:  # noqa: ANN401
    begins = outer.start_time_unix_nano <= inner.start_time_unix_nano
    return bool(begins and inner.end_time_unix_nano <= outer.end_time_unix_nano)


def seconds(span: Any) -> float:  # noqa: ANN401
    return float(span.end_time_unix_nano - span.start_time_unix_nano) / 1e9


def test_a_request_and_its_slices_are_one_trace(
    tmp_path: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.port}")
    path, key = tmp_path / "teams.toml", make_key()
    write_teams(path, team_table("vision", key))
    headers = {"x-api-key": key, "content-type": NPY, "traceparent": f"00-{TRACE}-{PARENT}-01"}
    with live_server(tmp_path, teams=path, traces=1) as server:
        with httpx.Client(base_url=server.url, headers=headers, timeout=60) as client:
            assert client.post("/bce", content=pair_body(10_000)).status_code == 200
            assert client.post("/bce", content=pair_body(4)).status_code == 200
            assert client.post("/bce?gamma=1", content=pair_body(4)).status_code == 422
            wrong = pair_body(10_000)[:-4] + b"\0\0\0\x40"
            assert client.post("/bce", content=wrong).status_code == 422
        assert server.stop() == 0  # which sends what has not been sent
    requests = [(resource, span) for resource, span in collector.found if span.name == "POST /bce"]
    assert [resource["service.name"] for resource, _ in requests] == ["lossd"] * 4
    assert {resource["service.version"] for resource, _ in collector.found} == {__version__}
    instances = {resource["service.instance.id"] for resource, _ in collector.found}
    assert len(instances) == 2  # the front end and the worker
    outcomes = [attributes(span)["lossd.outcome"] for _, span in requests]
    assert outcomes == ["ok", "ok", "invalid_parameter", "target_out_of_range"]
    scored = requests[0][1]
    assert (scored.trace_id.hex(), scored.parent_span_id.hex()) == (TRACE, PARENT)
    said = attributes(scored)
    assert (said["lossd.team"], said["lossd.format"], said["lossd.elements"]) == ("vision", "npy", 800_000)
    assert (said["http.request.method"], said["http.route"]) == ("POST", "/bce")
    assert (said["http.response.status_code"], said["url.scheme"]) == (200, "http")
    assert "error.type" not in said
    slices = 0
    for _, request in requests:
        below = [(res, span) for res, span in collector.found if span.parent_span_id == request.span_id]
        named = {span.name: span for _, span in below}
        assert all(span.trace_id.hex() == TRACE for _, span in below)
        assert all(within(span, request) for _, span in below)
        for resource, span in below:
            if span.name == "slice":
                slices += 1
                assert resource["lossd.process"] == "worker"
                assert within(span, named["compute"])
        if attributes(request)["lossd.outcome"] == "ok":
            assert named.keys() - {"slice"} == {"wait", "read", "queue", "compute"}
            assert named["wait"].end_time_unix_nano <= named["read"].start_time_unix_nano
            assert named["queue"].end_time_unix_nano == named["compute"].start_time_unix_nano
    assert slices > 2
    assert key.split("_")[2] not in str(collector.found)


def test_a_span_takes_as_long_as_its_answer(
    tmp_path: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.port}")
    body = pair_body(4)
    head = f"POST /bce HTTP/1.1\r\nHost: a\r\nContent-Type: {NPY}\r\nContent-Length: "
    with live_server(tmp_path, traces=1, upload_grace_seconds=30) as server:
        # Refused while it sends, after which the server still reads for seconds.
        with connect(server) as connection:
            connection.sendall(f"{head}3000000\r\nAccept: text/plain\r\n\r\n".encode())
            for _ in range(4):
                connection.sendall(bytes(1000))
                time.sleep(0.5)
        # Slow to send.
        slow = talk(server, f"{head}{len(body)}\r\n\r\n".encode(), body[:-9], body[-9:], pause=1.0, answers=1)
        assert slow.statuses == [200]
        # Hung up.
        with connect(server) as connection:
            connection.sendall(f"{head}{len(body)}\r\n\r\n".encode() + body[:-9])
            time.sleep(0.5)
        time.sleep(0.5)
        assert server.stop() == 0
    spans = {
        attributes(span)["lossd.outcome"]: span for _, span in collector.found if span.name == "POST /bce"
    }
    assert spans.keys() == {"not_acceptable", "ok", "disconnected"}
    assert seconds(spans["not_acceptable"]) < 1.5  # it is sent for two
    assert seconds(spans["ok"]) > 0.8
    children = {span.name: span for _, span in collector.found if span.parent_span_id == spans["ok"].span_id}
    assert seconds(children["read"]) > 0.8
    others = seconds(children["queue"]) + seconds(children["compute"])
    assert seconds(children["read"]) + others < seconds(spans["ok"]) + 0.01
    gone = spans["disconnected"]
    assert attributes(gone)["error.type"] == "disconnected"
    assert 0.3 < seconds(gone) < 3


def test_the_clients_requests_are_in_their_callers_trace(
    tmp_path: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.port}")
    tracer = TracerProvider().get_tracer("caller")
    rows = np.zeros((6, 4))
    with live_server(tmp_path, traces=1) as server:
        with (
            LossClient(server.url, request_bytes=150, shrink_targets=False) as client,
            tracer.start_as_current_span("evaluate") as span,
        ):
            parts = len(client.with_raw_response.bce(rows, rows).responses)  # sent by other threads
        caller = span.get_span_context()

        async def ask() -> None:
            async with AsyncLossClient(server.url) as client:
                with tracer.start_as_current_span("other") as span:
                    other.append(span.get_span_context())
                    await client.bce(rows, rows)
                await client.bce(rows, rows)

        other: list[SpanContext] = []
        asyncio.run(ask())
        assert server.stop() == 0
    found = [span for _, span in collector.found if span.name == "POST /bce"]
    assert parts > 1
    assert len(found) == parts + 2
    own = [span for span in found if int(span.trace_id.hex(), 16) == caller.trace_id]
    assert [int(each.parent_span_id.hex(), 16) for each in own] == [caller.span_id] * parts
    [alone] = [span for span in found if int(span.trace_id.hex(), 16) == other[0].trace_id]
    assert int(alone.parent_span_id.hex(), 16) == other[0].span_id
    assert sum(not span.parent_span_id for span in found) == 1


def test_callers_without_a_key_have_nothing_sampled(
    tmp_path: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.port}")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")
    path, key = tmp_path / "teams.toml", make_key()
    write_teams(path, team_table("vision", key))
    sampled = {"content-type": NPY, "traceparent": f"00-{TRACE}-{PARENT}-01"}
    with live_server(tmp_path, teams=path, traces=1) as server:
        with httpx.Client(base_url=server.url, timeout=60) as client:
            for keys in ({}, {"x-api-key": make_key()}):
                answer = client.post("/bce", content=pair_body(4), headers={**sampled, **keys})
                assert answer.status_code == 401
            mine = {"x-api-key": key, "content-type": NPY}
            assert client.post("/bce", content=pair_body(10_000), headers=mine).status_code == 200
            answer = client.post("/bce", content=pair_body(4), headers={**sampled, **mine})
            assert answer.status_code == 200
        assert server.stop() == 0
    (request,) = (span for _, span in collector.found if span.name == "POST /bce")
    assert request.trace_id.hex() == TRACE
    assert {span.trace_id.hex() for _, span in collector.found} == {TRACE}


def test_a_collector_that_is_not_there_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    with live_server(tmp_path, traces=1) as server:
        with httpx.Client(base_url=server.url, headers={"content-type": NPY}, timeout=10) as client:
            for _ in range(100):
                assert client.post("/bce", content=pair_body(4)).status_code == 200
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 20

"""Traces, as a collector receives them."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from faults.asked import pair_body
from live_server import free_port, live_server
from teams_file import make_key, team_table, write_teams

pytest.importorskip("opentelemetry.sdk")
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

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
            assert client.post("/bce?gamma=1", content=pair_body(4)).status_code == 422
        assert server.stop() == 0  # which sends what has not been sent
    requests = [(resource, span) for resource, span in collector.found if span.name == "POST /bce"]
    assert [resource["service.name"] for resource, _ in requests] == ["lossd"] * 2
    (scored,) = (span for _, span in requests if attributes(span)["lossd.outcome"] == "ok")
    assert (scored.trace_id.hex(), scored.parent_span_id.hex()) == (TRACE, PARENT)
    said = attributes(scored)
    assert (said["lossd.team"], said["lossd.format"], said["lossd.elements"]) == ("vision", "npy", 800_000)
    below = [(resource, span) for resource, span in collector.found if span.parent_span_id == scored.span_id]
    names = [span.name for _, span in below]
    assert {"read", "queue", "compute"} <= set(names)
    slices = [(resource, span) for resource, span in below if span.name == "slice"]
    assert len(slices) > 1
    assert {resource["lossd.process"] for resource, _ in slices} == {"worker"}
    assert all(span.trace_id.hex() == TRACE for _, span in below)
    assert key.split("_")[2] not in str(collector.found)


def test_a_collector_that_is_not_there_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    with live_server(tmp_path, traces=1) as server:
        with httpx.Client(base_url=server.url, headers={"content-type": NPY}, timeout=10) as client:
            for _ in range(100):
                assert client.post("/bce", content=pair_body(4)).status_code == 200
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 20

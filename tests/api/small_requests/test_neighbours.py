"""Small bodies that are a lot of work do not keep others waiting."""

from __future__ import annotations

import gzip
import io
import statistics
import sys
import threading
import time
from collections.abc import Iterator

import httpx
import numpy as np
import pyarrow as pa
import pytest

from live_server import LiveServer, live_server

pytestmark = pytest.mark.slow

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ARROW = "application/vnd.apache.arrow.stream"


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with live_server(tmp_path_factory.mktemp("busy")) as running:
        yield running


def tiny_batches(count: int) -> bytes:
    schema, batch, end = tiny_parts()
    return schema + count * batch + end


def tiny_parts() -> tuple[bytes, bytes, bytes]:
    batch = pa.record_batch({"logits": np.zeros(1), "targets": np.zeros(1)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema):
        pass
    empty = sink.getvalue().to_pybytes()
    return empty[:-8], batch.serialize().to_pybytes(), empty[-8:]


def zeros(megabytes: int) -> bytes:
    file = io.BytesIO()
    for _ in range(2):
        np.save(file, np.zeros(megabytes << 17, dtype=np.float32))
    return file.getvalue()


def lists() -> bytes:
    file = io.BytesIO()
    for _ in range(2):
        np.save(file, np.zeros((1_000_000, 0), dtype=np.float32))
    return file.getvalue()


CASES = {
    "batches of a row": (ARROW, "zstd", lambda: zstd.compress(tiny_batches(60_000)), "", 200),
    "zeros": ("application/x-npy", "gzip", lambda: gzip.compress(zeros(30)), "", 200),
    "streams of nothing": (
        "application/x-npy",
        "zstd",
        lambda: b"\x50\x2a\x4d\x18\0\0\0\0" * 32_000,
        "",
        400,
    ),
    "empty lists": ("application/x-npy", "identity", lists, "reduction=none", 413),
}


@pytest.mark.alone
@pytest.mark.parametrize(("media", "coding", "make", "query", "status"), CASES.values(), ids=CASES)
def test_others_are_answered_meanwhile(
    busy: LiveServer, media: str, coding: str, make: object, query: str, status: int
) -> None:
    assert callable(make)
    body = make()
    found: list[int] = []

    def post() -> None:
        headers = {"content-type": media, "content-encoding": coding}
        answer = httpx.post(f"{busy.url}/bce?{query}", content=body, headers=headers, timeout=60)
        found.append(answer.status_code)

    waits: list[float] = []
    asking = threading.Thread(target=post)
    with httpx.Client(base_url=busy.url) as other:
        other.get("/livez")
        asking.start()
        while asking.is_alive() or len(waits) < 3:
            began = time.perf_counter()
            other.get("/livez")
            waits.append(time.perf_counter() - began)
    asking.join()
    assert found == [status]
    assert statistics.median(waits) < 0.05
    assert max(waits) < 0.25, sorted(waits)[-5:]


@pytest.mark.alone
def test_a_deadline_holds_within_a_chunk(busy: LiveServer) -> None:
    body = zstd.compress(tiny_batches(100_000))
    headers = {"content-type": ARROW, "content-encoding": "zstd", "x-timeout-ms": "200"}
    began = time.perf_counter()
    answer = httpx.post(f"{busy.url}/bce", content=body, headers=headers, timeout=60)
    assert (answer.status_code, answer.json()["code"]) == (504, "deadline_exceeded")
    assert time.perf_counter() - began < 1.0


def test_a_stream_that_has_only_begun_holds_no_memory(busy: LiveServer) -> None:
    schema, batch, end = tiny_parts()
    begun = threading.Event()
    ended = threading.Event()

    def pieces() -> Iterator[bytes]:
        yield schema
        begun.set()
        ended.wait(10)
        yield batch + end

    found: list[int] = []
    asking = threading.Thread(
        target=lambda: found.append(
            httpx.post(f"{busy.url}/bce", content=pieces(), headers={"content-type": ARROW}).status_code
        )
    )
    asking.start()
    begun.wait(10)
    time.sleep(0.2)
    metrics = httpx.get(f"{busy.url}/metrics").text
    ended.set()
    asking.join()
    assert found == [200]
    assert "lossd_requests_in_flight 1.0" in metrics
    assert "lossd_bytes_in_flight 0.0" in metrics

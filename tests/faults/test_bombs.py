"""Small bodies that expand to large ones: refused at the limit, and the memory shows nothing of them."""

from __future__ import annotations

import gzip
import io
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest

from bench.memory import Peak
from live_server import LiveServer, live_server

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MIB = 1 << 20
BOMB_BYTES = 1 << 30
CODINGS: dict[str, tuple[str, Callable[[], Any]]] = {
    "gzip": ("gzip", lambda: zlib.compressobj(9, zlib.DEFLATED, 31)),
    "deflate": ("deflate", lambda: zlib.compressobj(9)),
    "zstd": ("zstd", lambda: zstd.ZstdCompressor()),
}


def head(megabytes: int, name: str = "<f4") -> bytes:
    file = io.BytesIO()
    fields = {"descr": name, "fortran_order": False, "shape": (megabytes << 18,)}
    np.lib.format.write_array_header_1_0(file, fields)
    return file.getvalue()


def coded(make: Callable[[], Any], first: bytes, filler: bytes, nbytes: int) -> bytes:
    compressor = make()
    pieces = [compressor.compress(first)]
    if nbytes and not isinstance(compressor, zstd.ZstdCompressor):
        # Behind a full flush a piece may come any number of times. It need not be compressed each time.
        pieces.append(compressor.flush(zlib.Z_FULL_FLUSH))
        piece = compressor.compress(filler) + compressor.flush(zlib.Z_FULL_FLUSH)
        return b"".join([*pieces, nbytes // len(filler) * piece])
    pieces += [compressor.compress(filler) for _ in range(nbytes // len(filler))]
    return b"".join([*pieces, compressor.flush()])


@pytest.fixture(scope="module")
def bombed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with live_server(tmp_path_factory.mktemp("bombed")) as running:
        for coding, make in CODINGS.values():  # what is imported and allocated once is not the bombs'
            body = coded(make, head(1), bytes(MIB), 0)
            httpx.post(f"{running.url}/bce", content=body, headers=npy_headers(coding), timeout=30)
        yield running


def npy_headers(coding: str) -> dict[str, str]:
    return {"content-type": "application/x-npy", "content-encoding": coding}


def refused(server: LiveServer, body: bytes, headers: dict[str, str], codes: set[str]) -> None:
    with Peak(server.process.pid, 0.01) as memory:
        answer = httpx.post(f"{server.url}/bce", content=body, headers=headers, timeout=60)
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.json()["code"] in codes, answer.text
    assert memory.growth < 64 * MIB, f"{memory.growth / MIB:.0f} MiB"
    assert httpx.get(f"{server.url}/readyz", timeout=5).status_code == 200


@pytest.mark.parametrize(("coding", "make"), CODINGS.values(), ids=CODINGS)
def test_an_array_that_announces_itself(bombed: LiveServer, coding: str, make: Callable[[], Any]) -> None:
    body = coded(make, head(BOMB_BYTES // MIB), bytes(MIB), BOMB_BYTES // 2)
    refused(bombed, body, npy_headers(coding), {"expanded_too_large"})


@pytest.mark.parametrize(("coding", "make"), CODINGS.values(), ids=CODINGS)
def test_json_that_never_ends(bombed: LiveServer, coding: str, make: Callable[[], Any]) -> None:
    body = coded(make, b'{"logits": [', b" " * MIB, BOMB_BYTES // 2)
    headers = {"content-type": "application/json", "content-encoding": coding}
    refused(bombed, body, headers, {"expanded_too_large"})


@pytest.mark.parametrize(("coding", "make"), CODINGS.values(), ids=CODINGS)
def test_an_arrow_stream_that_expands_without_end(
    bombed: LiveServer, coding: str, make: Callable[[], Any]
) -> None:
    batch = pa.record_batch({"logits": np.zeros(100_000), "targets": np.zeros(100_000)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema):
        pass
    body = coded(make, sink.getvalue().to_pybytes()[:-8], batch.serialize().to_pybytes(), BOMB_BYTES // 4)
    headers = {"content-type": "application/vnd.apache.arrow.stream", "content-encoding": coding}
    refused(bombed, body, headers, {"expanded_too_large"})


def test_an_npz_member_that_expands(bombed: LiveServer) -> None:
    file = io.BytesIO()
    with (
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive,
        archive.open("logits.npy", "w", force_zip64=True) as member,
    ):
        member.write(head(BOMB_BYTES // 4 // MIB))
        for _ in range(BOMB_BYTES // 4 // MIB):
            member.write(bytes(MIB))
    refused(bombed, file.getvalue(), {"content-type": "application/x-npz"}, {"expanded_too_large"})


def test_arrow_buffers_compressed_within_the_stream(bombed: LiveServer) -> None:
    batch = pa.record_batch({"logits": np.zeros(4_000_000), "targets": np.zeros(4_000_000)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_batch(batch)
    headers = {"content-type": "application/vnd.apache.arrow.stream"}
    refused(bombed, sink.getvalue().to_pybytes(), headers, {"unsupported_encoding"})


def test_gzip_within_gzip_is_not_opened(bombed: LiveServer) -> None:
    body = gzip.compress(gzip.compress(head(1) + bytes(MIB)))
    refused(bombed, body, npy_headers("gzip"), {"malformed_npy"})
    refused(bombed, body, npy_headers("gzip, gzip"), {"unsupported_encoding"})

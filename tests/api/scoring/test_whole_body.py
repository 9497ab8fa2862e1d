"""Bodies that are scored while their last tensor is still arriving."""

from __future__ import annotations

import http.client
import io
import json
import re
import select
import time
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import numpy.typing as npt
import pytest

from live_server import LiveServer

N, C = 30_000, 80
RNG = np.random.default_rng(8)
LOGITS = RNG.normal(0, 4, (N, C)).astype(np.float32)
TARGETS = (RNG.random((N, C)) < 0.3).astype(np.float32)
IDS = RNG.integers(0, C, N).astype(np.int32)
BOUNDARY = "sep"

Arrays = dict[str, npt.NDArray[Any]]


def npy(array: npt.NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def body_of(media: str, tensors: Arrays) -> bytes:
    if media == "application/x-npy":
        return b"".join(npy(array) for array in tensors.values())
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'.encode()
        + npy(array)
        + b"\r\n"
        for name, array in tensors.items()
    ]
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def slices(server: LiveServer) -> int:
    metrics = httpx.get(f"{server.url}/metrics", timeout=10).text
    found = re.search(r"^lossd_slices_total (\d+)", metrics, re.MULTILINE)
    assert found
    return int(found[1])


def begin(
    server: LiveServer, media: str, query: str, length: int, loss: str = "focal"
) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=30)
    connection.putrequest("POST", f"/{loss}?{query}")
    if media == "multipart/form-data":
        media += f"; boundary={BOUNDARY}"
    connection.putheader("Content-Type", media)
    connection.putheader("Content-Length", str(length))
    connection.putheader("Accept", "application/x-npy")
    connection.endheaders()
    return connection


def wait_for_slices(server: LiveServer, before: int, least: int) -> None:
    ends = time.monotonic() + 20
    while slices(server) - before < least:
        assert time.monotonic() < ends, "nothing was scored before the end of the body"
        time.sleep(0.02)


CASES: dict[str, tuple[str, Arrays, str]] = {
    "npy": ("application/x-npy", {"logits": LOGITS, "targets": TARGETS}, ""),
    "npy by sample": ("application/x-npy", {"logits": LOGITS, "targets": TARGETS}, "axis=1"),
    "npy, logits last": (
        "application/x-npy",
        {"targets": TARGETS, "logits": LOGITS},
        "tensors=targets,logits",
    ),
    "npy, a weight between": (
        "application/x-npy",
        {"logits": LOGITS, "weight": LOGITS[:, :1] ** 2, "targets": TARGETS},
        "tensors=logits,weight,targets&alpha=" + ",".join(["0.5"] * C),
    ),
    "multipart": ("multipart/form-data", {"logits": LOGITS, "targets": TARGETS}, ""),
}


@pytest.mark.parametrize(("media", "tensors", "query"), CASES.values(), ids=CASES)
def test_arrived_elements_are_scored(server: LiveServer, media: str, tensors: Arrays, query: str) -> None:
    body = body_of(media, tensors)
    whole = httpx.post(
        f"{server.url}/focal?{query}",
        content=body,
        headers={
            "content-type": media + (f"; boundary={BOUNDARY}" if "multipart" in media else ""),
            "accept": "application/x-npy",
        },
        timeout=30,
    )
    assert whole.status_code == 200, whole.text
    before = slices(server)
    connection = begin(server, media, query, len(body))
    held_back = N * C * 4 // 3
    connection.send(body[:-held_back])
    wait_for_slices(server, before, 5)
    connection.send(body[-held_back:])
    answer = connection.getresponse()
    assert answer.status == 200
    assert answer.read() == whole.content
    assert answer.headers["lossd-sum"] == whole.headers["lossd-sum"]
    connection.close()


BOXES = np.concatenate([LOGITS[:, :40].reshape(-1, 2), LOGITS[:, :40].reshape(-1, 2) + 9], axis=1)
OF_ROWS: dict[str, tuple[str, Arrays, str]] = {
    "ids first": ("cross_entropy", {"targets": IDS, "logits": LOGITS}, "tensors=targets,logits"),
    "dense targets last": ("softmax_focal", {"logits": LOGITS, "targets": TARGETS}, ""),
    "classes within": (
        "cross_entropy",
        {"targets": IDS[:20_000].reshape(100, 200) % 40, "logits": LOGITS[:10_000].reshape(100, 40, 200)},
        "tensors=targets,logits&class_axis=1",
    ),
    "samples": ("dice", {"logits": LOGITS, "targets": TARGETS}, ""),
    "boxes": ("box", {"boxes": BOXES, "targets": BOXES + 1}, ""),
}


@pytest.mark.parametrize(("loss", "tensors", "query"), OF_ROWS.values(), ids=OF_ROWS)
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_rows_that_have_arrived_are_scored(
    server: LiveServer, loss: str, tensors: Arrays, query: str, reduction: str
) -> None:
    media, query = "application/x-npy", f"{query}&reduction={reduction}".removeprefix("&")
    body = body_of(media, tensors)
    headers = {"content-type": media, "accept": "application/x-npy"}
    whole = httpx.post(f"{server.url}/{loss}?{query}", content=body, headers=headers, timeout=30)
    assert whole.status_code == 200, whole.text
    before = slices(server)
    connection = begin(server, media, query, len(body), loss)
    held_back = len(body) // 8
    connection.send(body[:-held_back])
    wait_for_slices(server, before, 1)
    connection.send(body[-held_back:])
    answer = connection.getresponse()
    assert answer.status == 200
    assert answer.read() == whole.content
    connection.close()


GROUPS = RNG.integers(0, 9, (N, 2)).astype(np.int64)
LAST: dict[str, tuple[str, npt.NDArray[Any]]] = {
    "groups": ("groups", GROUPS[:, 0].copy()),
    "columns of groups": ("groups", GROUPS),
    "columns of groups in Fortran order": ("groups", np.asfortranarray(GROUPS)),
    "ids": ("ids", RNG.permutation(N)),
    "baseline": ("baseline", LOGITS + 1),
    "targets": ("targets", TARGETS),
}


@pytest.mark.parametrize(("name", "last"), LAST.values(), ids=LAST)
def test_a_report_is_right_whatever_comes_last(server: LiveServer, name: str, last: npt.NDArray[Any]) -> None:
    """The last tensor comes in two parts, between which rows are scored if it is long."""
    tensors: Arrays = {"logits": LOGITS, "targets": TARGETS, "groups": GROUPS}
    tensors["ids"] = np.arange(N)[::-1].copy()
    tensors["baseline"] = LOGITS[:, ::-1].copy()
    tensors.pop(name)
    tensors[name] = last
    body = body_of("application/x-npy", tensors)
    query = f"report=all&tensors={','.join(tensors)}"
    headers = {"content-type": "application/x-npy"}
    url = f"{server.url}/focal?{query}"
    whole = httpx.post(url, content=body, headers=headers, timeout=60)
    assert whole.status_code == 200, whole.text
    before = slices(server)
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=60)
    connection.putrequest("POST", f"/focal?{query}")
    connection.putheader("Content-Type", "application/x-npy")
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders()
    held_back = last.nbytes // 3
    connection.send(body[:-held_back])
    if last.flags.c_contiguous:
        wait_for_slices(server, before, 1)
    connection.send(body[-held_back:])
    answer = connection.getresponse()
    assert answer.status == 200
    found, expected = json.loads(answer.read()), whole.json()
    connection.close()
    for document in (found, expected):
        document["request_id"] = document["report"]["run"]["request_id"] = ""
    assert found == expected


def test_class_ids_open_out_as_they_arrive(server: LiveServer) -> None:
    logits = RNG.normal(0, 4, (900_000, 4)).astype(np.float32)
    ids = RNG.integers(0, 4, 900_000)
    body = npy(logits) + npy(ids)
    before = slices(server)
    connection = begin(server, "application/x-npy", "targets_format=index", len(body))
    connection.send(body[:-1_000_000])
    wait_for_slices(server, before, 3)
    connection.send(body[-1_000_000:])
    answer = connection.getresponse()
    assert answer.status == 200
    found = float(answer.headers["lossd-sum"])
    answer.read()
    connection.close()
    dense = npy(logits) + npy(np.eye(4, dtype=bool)[ids])
    headers = {"content-type": "application/x-npy"}
    whole = httpx.post(f"{server.url}/focal", content=dense, headers=headers, timeout=30).json()
    assert found == whole["sum"]


def test_a_bad_value_is_answered_before_the_body_ends(server: LiveServer) -> None:
    targets = TARGETS.copy()
    targets[3, 4] = -1.0
    body = body_of("application/x-npy", {"logits": LOGITS, "targets": targets})
    connection = begin(server, "application/x-npy", "", len(body))
    sent = len(body) // 2 + 4_000_000
    connection.send(body[:sent])
    while not select.select([connection.sock], [], [], 0.2)[0]:  # the answer, when a further chunk has come
        assert sent < len(body) - 20_000
        connection.send(body[sent : sent + 20_000])
        sent += 20_000
    answer = connection.getresponse()
    assert answer.status == 422
    assert b"/targets/3/4" in answer.read()
    connection.close()


@pytest.mark.parametrize("media", ["application/x-npy", "multipart/form-data"])
def test_a_caller_that_hangs_up_leaves_nothing(server: LiveServer, media: str) -> None:
    body = body_of(media, {"logits": LOGITS, "targets": TARGETS})
    before = slices(server)
    connection = begin(server, media, "", len(body))
    connection.send(body[:-1_000_000])
    wait_for_slices(server, before, 5)
    connection.close()
    ends = time.monotonic() + 5
    while "lossd_bytes_in_flight 0.0" not in httpx.get(f"{server.url}/metrics", timeout=10).text:
        assert time.monotonic() < ends
        time.sleep(0.02)


def test_a_body_that_ends_within_an_array(server: LiveServer) -> None:
    body = body_of("application/x-npy", {"logits": LOGITS, "targets": TARGETS})[:-8]
    headers = {"content-type": "application/x-npy"}
    answer = httpx.post(f"{server.url}/focal", content=body, headers=headers, timeout=30)
    assert (answer.status_code, answer.json()["code"]) == (400, "truncated_body")
    longer = httpx.post(f"{server.url}/focal", content=body + bytes(9), headers=headers, timeout=30)
    assert (longer.status_code, longer.json()["code"]) == (400, "trailing_bytes")

"""Bad input gets the contract's code, and a pointer to the place."""

from __future__ import annotations

import io
import json
import socket
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import numpy.typing as npt
import pytest

OK = {"logits": [[1.0, 2.0], [3.0, 4.0]], "targets": [[0, 1], [1, 0]]}


def npy(*arrays: npt.NDArray[Any]) -> bytes:
    file = io.BytesIO()
    for array in arrays:
        np.save(file, array)
    return file.getvalue()


X, Y = np.ones((4, 5), np.float32), np.zeros((4, 5), np.float32)


def check(answer: httpx.Response, status: int, code: str, pointer: str | None = None) -> dict[str, Any]:
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code), problem
    assert problem["status"] == status
    assert problem["type"].endswith(code)
    assert problem["title"]
    assert problem["detail"]
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert problem["retryable"] is (status in (408, 429, 503))
    assert "compute;dur=" in answer.headers["server-timing"]
    if pointer is not None:
        assert problem["errors"][0]["pointer"] == pointer, problem
    return problem


BAD_JSON: list[tuple[str, str, int, str, str | None]] = [
    ("ragged", '{"logits": [[1, 2], [3]], "targets": [[0, 1], [1]]}', 422, "bad_shape", "/logits/1"),
    (
        "a target of 1.7",
        '{"logits": [[0, 1]], "targets": [[0, 1.7]]}',
        422,
        "target_out_of_range",
        "/targets/0/1",
    ),
    ("a string", '{"logits": [[0, "1"]], "targets": [[0, 1]]}', 415, "dtype_not_allowed", "/logits/0/1"),
    ("a null", '{"logits": [[0, null]], "targets": [[0, 1]]}', 415, "dtype_not_allowed", "/logits/0/1"),
    (
        "a null in targets",
        '{"logits": [[0, 1]], "targets": [[0, null]]}',
        422,
        "non_finite_input",
        "/targets/0/1",
    ),
    ("a bool in logits", '{"logits": [true], "targets": [1]}', 415, "dtype_not_allowed", "/logits/0"),
    ("NaN", '{"logits": [NaN], "targets": [1]}', 400, "malformed_json", None),
    ("overflow", '{"logits": [1e999], "targets": [1]}', 400, "malformed_json", None),
    ("cut off", '{"logits": [1], "targ', 400, "malformed_json", None),
    ("duplicate keys", '{"logits": [1], "logits": [2], "targets": [1]}', 400, "malformed_json", None),
    ("not an object", "[1, 2]", 400, "malformed_json", None),
    ("trailing", '{"logits": [1], "targets": [1]} x', 400, "malformed_json", None),
    ("no targets", '{"logits": [1]}', 422, "missing_tensor", "/targets"),
    ("other shapes", '{"logits": [1, 2], "targets": [1]}', 422, "shape_mismatch", "/targets"),
    ("a scalar", '{"logits": 1, "targets": 1}', 422, "bad_shape", "/logits"),
    (
        "9 dimensions",
        '{"logits": [[[[[[[[[1]]]]]]]]], "targets": [[[[[[[[[1]]]]]]]]]}',
        422,
        "bad_shape",
        None,
    ),
    ("gama", '{"logits": [1], "targets": [1], "gama": 2}', 422, "invalid_parameter", "/gama"),
    ("reduction", '{"logits": [1], "targets": [1], "reduction": "avg"}', 422, "invalid_parameter", None),
    ("axis", '{"logits": [1], "targets": [1], "axis": 1}', 422, "invalid_parameter", "/axis"),
    ("axis twice", '{"logits": [[1]], "targets": [[1]], "axis": [0, -2]}', 422, "invalid_parameter", "/axis"),
    (
        "axis with none",
        '{"logits": [1], "targets": [1], "axis": 0, "reduction": "none"}',
        422,
        "invalid_parameter",
        "/axis",
    ),
    ("alpha", '{"logits": [1], "targets": [1], "alpha": 1.5}', 422, "invalid_parameter", "/alpha"),
    ("gamma", '{"logits": [1], "targets": [1], "gamma": -1}', 422, "invalid_parameter", "/gamma"),
    (
        "a weight",
        '{"logits": [1, 2], "targets": [1, 1], "weight": [1, -2]}',
        422,
        "weight_out_of_range",
        "/weight/1",
    ),
    (
        "weights",
        '{"logits": [1, 2], "targets": [1, 1], "weight": [1, 2, 3]}',
        422,
        "shape_mismatch",
        "/weight",
    ),
    (
        "pos_weight",
        '{"logits": [1, 2], "targets": [1, 1], "pos_weight": [1, 2, 3]}',
        422,
        "shape_mismatch",
        "/pos_weight",
    ),
]


@pytest.mark.parametrize(
    ("body", "status", "code", "pointer"), [case[1:] for case in BAD_JSON], ids=[case[0] for case in BAD_JSON]
)
def test_bad_json(base_url: str, body: str, status: int, code: str, pointer: str | None) -> None:
    answer = httpx.post(f"{base_url}/focal", content=body, headers={"content-type": "application/json"})
    check(answer, status, code, pointer)


def test_the_nearest_name_is_suggested(base_url: str) -> None:
    assert (
        "gamma" in check(httpx.post(f"{base_url}/focal?gama=2", json=OK), 422, "invalid_parameter")["detail"]
    )
    check(httpx.post(f"{base_url}/bce?gamma=2", json=OK), 422, "invalid_parameter", "/gamma")


BAD_NPY: list[tuple[str, bytes, int, str, str | None]] = [
    ("truncated", npy(X, Y)[:-1], 400, "truncated_body", "/targets"),
    ("one array", npy(X), 400, "truncated_body", "/targets"),
    ("nothing", b"", 400, "truncated_body", "/logits"),
    ("trailing", npy(X, Y) + b"\0", 400, "trailing_bytes", None),
    ("an array more", npy(X, Y, Y), 400, "trailing_bytes", None),
    ("no magic", b"PK\3\4" + npy(X, Y), 400, "malformed_npy", "/logits"),
    (
        "objects",
        npy(X) + npy(np.zeros(3, "f4")).replace(b"'<f4'", b"'|O' "),
        415,
        "dtype_not_allowed",
        "/targets",
    ),
    ("integers", npy(X.astype(int), Y), 415, "dtype_not_allowed", "/logits"),
    ("complex", npy(X.astype(complex), Y), 415, "dtype_not_allowed", "/logits"),
    (
        "a NaN",
        npy(np.where(np.arange(20).reshape(4, 5) == 13, np.nan, X), Y),
        422,
        "non_finite_input",
        "/logits/2/3",
    ),
    (
        "a target",
        npy(X, np.where(np.arange(20).reshape(4, 5) == 19, -0.5, Y)),
        422,
        "target_out_of_range",
        "/targets/3/4",
    ),
    ("shapes", npy(X, Y[:, :4]), 422, "shape_mismatch", "/targets"),
]


@pytest.mark.parametrize(
    ("body", "status", "code", "pointer"), [case[1:] for case in BAD_NPY], ids=[case[0] for case in BAD_NPY]
)
def test_bad_npy(base_url: str, body: bytes, status: int, code: str, pointer: str | None) -> None:
    answer = httpx.post(f"{base_url}/bce", content=body, headers={"content-type": "application/x-npy"})
    check(answer, status, code, pointer)


def test_bad_multipart(base_url: str) -> None:
    files = {"logits": npy(X), "targets": npy(Y)}
    url = f"{base_url}/bce"
    check(httpx.post(url, files={**files, "targets": npy(Y)[:-4]}), 400, "truncated_body", "/targets")
    check(httpx.post(url, files={"logits": npy(X)}), 422, "missing_tensor", "/targets")
    check(httpx.post(url, files={**files, "logit": npy(X)}), 422, "unknown_tensor", "/logit")
    headers = {"content-type": "multipart/form-data"}
    check(httpx.post(url, content=b"--x--", headers=headers), 400, "malformed_multipart")
    params = (None, b'{"reduction": "sum"}')
    check(
        httpx.post(f"{url}?reduction=mean", files={**files, "params": params}),
        422,
        "invalid_parameter",
        "/reduction",
    )


def test_media_types(base_url: str) -> None:
    url = f"{base_url}/bce"
    check(httpx.post(url, content=b"x"), 415, "unsupported_media_type")
    check(httpx.post(url, content=b"x", headers={"content-type": "text/csv"}), 415, "unsupported_media_type")
    check(httpx.post(url, json=OK, headers={"content-encoding": "br"}), 415, "unsupported_encoding")
    check(httpx.post(url, json=OK, headers={"accept": "text/html"}), 406, "not_acceptable")
    assert httpx.post(url, json=OK, headers={"accept": "text/html, */*;q=0.1"}).status_code == 200
    with_charset = {"content-type": "application/json; charset=utf-8"}
    assert httpx.post(url, content=json.dumps(OK), headers=with_charset).status_code == 200


def test_routes(base_url: str) -> None:
    check(httpx.get(f"{base_url}/nothing"), 404, "not_found")
    check(httpx.post(f"{base_url}//bce", json=OK), 404, "not_found")
    refused = httpx.get(f"{base_url}/bce")
    check(refused, 405, "method_not_allowed")
    assert refused.headers["allow"] == "POST"


def test_timeouts(base_url: str) -> None:
    for given in ("0", "-5", "soon", "1.5"):
        answer = httpx.post(f"{base_url}/bce", json=OK, headers={"x-timeout-ms": given})
        check(answer, 422, "invalid_parameter")
    assert httpx.post(f"{base_url}/bce", json=OK, headers={"x-timeout-ms": "5000"}).status_code == 200


def test_request_ids_come_back(base_url: str) -> None:
    answer = httpx.post(f"{base_url}/bce", json=OK, headers={"x-request-id": "batch-17/3"})
    assert answer.headers["x-request-id"] == answer.json()["request_id"] == "batch-17/3"
    for ill_formed in ("a b", "x" * 200, "ünicode"):
        answer = httpx.post(f"{base_url}/bce", json=OK, headers=[(b"x-request-id", ill_formed.encode())])
        assert answer.headers["x-request-id"] != ill_formed


def exchange(base_url: str, request: bytes) -> bytes:
    parts = urlsplit(base_url)
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as connection:
        connection.sendall(request)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    return answer


def test_bytes_that_are_not_http_get_a_problem(base_url: str) -> None:
    answer = exchange(base_url, b"GET / HTTP/9.9\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in head
    assert json.loads(body)["code"] == "bad_request"


def test_a_huge_content_length_is_refused_unread(base_url: str) -> None:
    request = (
        b"POST /bce HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-npy\r\n"
        b"Content-Length: 1099511627776\r\n\r\n"
    )
    head, _, body = exchange(base_url, request).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in head.lower()
    assert json.loads(body)["code"] == "body_too_large"


def test_chunked_bodies(base_url: str) -> None:
    body = npy(X, Y)
    pieces = (body[i : i + 7] for i in range(0, len(body), 7))
    answer = httpx.post(f"{base_url}/bce", content=pieces, headers={"content-type": "application/x-npy"})
    assert answer.json()["count"] == 20

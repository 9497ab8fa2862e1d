"""Bodies with more than plain numbers: strings, nulls, text fields, members that are not tensors."""

from __future__ import annotations

import io
import json
import subprocess
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from live_server import live_server
from wire.feeding import npy

Array = npt.NDArray[Any]

X = np.array([[0.5, -2.0, 3.0], [1.0, 0.0, -40.0]], dtype=np.float32)
Y = np.array([[1, 0, 1], [0, 1, 0]])
PROBLEM = "application/problem+json"


def bce(x: Array, y: Array, pos_weight: float | Array = 1.0) -> Array:
    """The loss of each element, by numpy."""
    x64, y64 = np.asarray(x, np.float64), np.asarray(y, np.float64)
    return np.asarray(pos_weight * y64 * np.logaddexp(0, -x64) + (1 - y64) * np.logaddexp(0, x64))


def npz(save: Any = np.savez, **arrays: Array) -> bytes:  # noqa: ANN401 -- one of numpy's
    file = io.BytesIO()
    save(file, **arrays)
    return file.getvalue()


def post_npz(url: str, body: bytes) -> httpx.Response:
    return httpx.post(f"{url}/bce", content=body, headers={"content-type": "application/x-npz"}, timeout=30)


def check(answer: httpx.Response, expected: float, notes: list[str] | None = None) -> None:
    assert answer.status_code == 200, answer.text
    assert answer.json()["loss"] == pytest.approx(expected, rel=1e-14)
    assert answer.json()["notes"] == (notes or [])


def refused(answer: httpx.Response, status: int, code: str) -> str:
    assert (answer.status_code, answer.headers["content-type"]) == (status, PROBLEM), answer.text
    assert answer.json()["code"] == code
    return str(answer.json()["detail"])


# .npz


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_npz_with_other_members(base_url: str, save: object) -> None:
    others = {"meta": np.array({"epoch": 3}, dtype=object), "names": np.array(["cat", "dog", "bird"])}
    note = "skipped meta (Python objects) and names (text), which are no tensors"
    answer = post_npz(base_url, npz(save, **others, logits=X, targets=Y))
    check(answer, bce(X, Y).mean(), [note])
    headers = {"content-type": "application/x-npz", "accept": "application/x-npy"}
    answer = httpx.post(f"{base_url}/bce", content=npz(save, logits=X, **others, targets=Y), headers=headers)
    assert json.loads(answer.headers["lossd-notes"]) == [note]
    assert np.load(io.BytesIO(answer.content)) == pytest.approx(bce(X, Y).mean(), rel=1e-14)
    detail = refused(post_npz(base_url, npz(save, logits=X, targets=Y, weigth=X)), 422, "unknown_tensor")
    assert "did you mean weight?" in detail


def test_skipped_members_count_against_the_limit(tmp_path: Path) -> None:
    zeros = np.array("x" * (1 << 20))  # 4 MiB, of which deflate makes 4 kB
    body = npz(np.savez_compressed, logits=X, targets=Y, names=zeros)
    assert len(body) < 1 << 16
    with live_server(tmp_path, max_expanded_bytes=1 << 21) as server:
        refused(post_npz(server.url, body), 413, "expanded_too_large")
        check(post_npz(server.url, npz(np.savez_compressed, logits=X, targets=Y)), bce(X, Y).mean())


# multipart/form-data


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with x.npy and y.npy."""
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", Y)
    return tmp_path


def curl(folder: Path, url: str, *fields: str) -> dict[str, Any]:
    """What curl -F gets."""
    options = [option for field in fields for option in ("-F", field)]
    ran = subprocess.run(["curl", "-s", *options, url], cwd=folder, capture_output=True, check=True)
    document: dict[str, Any] = json.loads(ran.stdout)
    return document


def test_form_fields_are_parameters(base_url: str, files: Path) -> None:
    url, both = f"{base_url}/bce", ("logits=@x.npy", "targets=@y.npy")
    answer = curl(files, url, *both, "pos_weight=2")
    assert answer["loss"] == pytest.approx(bce(X, Y, 2.0).mean(), rel=1e-14)
    answer = curl(files, url, "pos_weight=1,2,3", "reduction=sum", *both)
    assert answer["loss"] == pytest.approx(bce(X, Y, np.array([1, 2, 3])).sum(), rel=1e-14)
    answer = curl(files, f"{base_url}/focal", *both, "gamma=0", "alpha=null")
    assert answer["loss"] == pytest.approx(bce(X, Y).mean(), rel=1e-14)
    assert answer["params"]["alpha"] is None
    answer = curl(files, url, *both, "gamma=2")
    assert (answer["status"], answer["code"]) == (422, "invalid_parameter")
    answer = curl(files, f"{url}?reduction=sum", *both, "reduction=sum")
    assert (answer["status"], answer["code"]) == (422, "invalid_parameter")
    answer = curl(files, url, "logits=x.npy", "targets=@y.npy")
    assert (answer["status"], answer["code"]) == (400, "malformed_npy")
    assert "curl -F logits=@FILE.npy" in answer["detail"]


def test_preambles_and_epilogues(base_url: str) -> None:
    form = b"".join(
        f'--B\r\nContent-Disposition: form-data; name="{name}"; filename="{name}.npy"\r\n\r\n'.encode()
        + npy(array)
        + b"\r\n"
        for name, array in (("logits", X), ("targets", Y))
    )
    headers = {"content-type": "multipart/form-data; boundary=B"}
    for before, after in ((b"hello\r\n", b""), (b"", b"\r\nbye\r\n"), (b"\r\n", b"\r\n"), (b"", b"")):
        body = before + form + b"--B--" + after
        check(httpx.post(f"{base_url}/bce", content=body, headers=headers), bce(X, Y).mean())
        chunks = (body[start : start + 7] for start in range(0, len(body), 7))
        check(httpx.post(f"{base_url}/bce", content=chunks, headers=headers), bce(X, Y).mean())
    body = b'hello\r\n--B\r\nContent-Disposition: form-data; name="logits"\r\n\r\nx\r\n--B--\r\n'
    detail = refused(httpx.post(f"{base_url}/bce", content=body, headers=headers), 400, "malformed_npy")
    assert "the part logits is the text 'x'" in detail


# JSON


@pytest.mark.parametrize("rows", [1, 3000], ids=["small", "parsed by a helper"])
def test_strings_and_null_in_json(base_url: str, rows: int) -> None:
    logits = [["Infinity", "-Infinity", 0.5, 2.0]] * rows
    targets = [[1, 0, None, "NaN"]] * rows
    document = {"logits": logits, "targets": targets, "ignore_index": "nan", "reduction": "none"}
    answer = httpx.post(f"{base_url}/bce", json=document, timeout=30).json()
    assert answer["loss"] == [[0.0] * 4] * rows
    assert answer["count"] == 2 * rows
    document = {"logits": [[1.0, "NaN"]] * rows, "targets": [[1, 0]] * rows}
    detail = refused(httpx.post(f"{base_url}/bce", json=document, timeout=30), 422, "non_finite_input")
    assert "/logits/0/1" in detail
    answer = httpx.post(f"{base_url}/bce", json={**document, "allow_nan": True}, timeout=30).json()
    assert answer["loss"] == "NaN"
    wrong = {**document, "logits": [[1.0, 2.0]] * (rows - 1) + [[1.0, None]]}
    answer_to_null = httpx.post(f"{base_url}/bce", json=wrong, timeout=30)
    assert f"/logits/{rows - 1}/1 is null" in refused(answer_to_null, 415, "dtype_not_allowed")


def test_class_ids_in_json_may_be_missing(base_url: str) -> None:
    document = {"logits": X.tolist(), "targets": [2, None], "targets_format": "index"}
    answer = httpx.post(f"{base_url}/bce", json={**document, "ignore_index": "nan"})
    check(answer, bce(X[0], np.array([0, 0, 1])).mean())
    assert answer.json()["count"] == 3
    refused(httpx.post(f"{base_url}/bce", json=document), 422, "non_finite_input")
    document["targets"] = [2, 0.5]
    assert "/targets/1" in refused(httpx.post(f"{base_url}/bce", json=document), 415, "dtype_not_allowed")


# One rule for all formats


def bodies(arrays: dict[str, Array]) -> dict[str, tuple[str, bytes, str]]:
    """The same tensors in every format: the path's end, the body and its media type."""
    names = ",".join(arrays)
    sink = io.BytesIO()
    table = pa.table(
        {
            name: pa.FixedSizeListArray.from_arrays(pa.array(array.ravel()), array.shape[1])
            for name, array in arrays.items()
        }
    )
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    text = json.dumps({name: array.tolist() for name, array in arrays.items()}).encode()
    files = b"".join(npy(array) for array in arrays.values())
    return {
        "json": ("", text, "application/json"),
        "npy": (f"?tensors={names}", files, "application/x-npy"),
        "npz": ("", npz(**arrays), "application/x-npz"),
        "arrow": ("", sink.getvalue(), "application/vnd.apache.arrow.stream"),
    }


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"])
def test_integers_of_any_width_in_any_format(base_url: str, dtype: str) -> None:
    weight = np.array([[1, 2, 0], [3, 1, 1]], dtype)
    mask = np.array([[1, 1, 0], [1, 0, 1]], dtype)
    arrays = {"logits": X, "targets": Y.astype(dtype), "weight": weight, "mask": mask}
    expected = (bce(X, Y) * weight)[mask == 1].mean()
    bits = set()
    for end, body, media in bodies(arrays).values():
        answer = httpx.post(f"{base_url}/bce{end}", content=body, headers={"content-type": media})
        check(answer, expected)
        bits.add(answer.json()["loss"])
    assert len(bits) == 1
    arrays["mask"] = (2 * mask).astype(dtype)
    for end, body, media in bodies(arrays).values():
        answer = httpx.post(f"{base_url}/bce{end}", content=body, headers={"content-type": media})
        assert "/mask/0/0" in refused(answer, 422, "weight_out_of_range")

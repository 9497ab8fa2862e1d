"""Numbers to score, and request bodies that hold them."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

CLASSES: Final = 80
SMALL, MIDDLE, LARGE = 32, 4_096, 262_144
"""Rows of the three sizes."""
MEDIA: Final = {"npy": "application/x-npy", "npy-bool": "application/x-npy"}

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Payload:
    """A request's body and its headers."""

    data: bytes
    headers: dict[str, str]


@lru_cache(maxsize=1)
def numbers(rows: int) -> tuple[Array, Array]:
    """Return logits and 0/1 targets, float32."""
    rng = np.random.default_rng(0)
    shape = (rows, CLASSES)
    return rng.normal(0, 3, shape).astype(np.float32), (rng.random(shape) < 0.05).astype(np.float32)


def expected(rows: int) -> float:
    """Compute the mean binary cross entropy, in float64."""
    x, y = (array.astype(np.float64) for array in numbers(rows))
    return float(np.mean(np.maximum(x, 0) - x * y + np.log1p(np.exp(-np.abs(x)))))


def npy(*arrays: Array) -> bytes:
    """Write arrays with np.save, one file after the other."""
    file = io.BytesIO()
    for array in arrays:
        np.save(file, array)
    return file.getvalue()


def as_json(logits: Array, targets: Array) -> bytes:
    """Write arrays with tolist() and json.dumps."""
    return json.dumps({"logits": logits.tolist(), "targets": targets.tolist()}).encode()


def v2(logits: Array, targets: Array, *, binary: bool) -> Payload:
    """Write an Open Inference Protocol request."""
    tensors = {"logits": logits, "targets": targets}
    inputs: list[dict[str, Any]] = [
        {"name": name, "shape": list(one.shape), "datatype": "FP32"} for name, one in tensors.items()
    ]
    for described, one in zip(inputs, tensors.values(), strict=True):
        if binary:
            described["parameters"] = {"binary_data_size": one.nbytes}
        else:
            described["data"] = one.reshape(-1).tolist()
    head = json.dumps({"inputs": inputs}).encode()
    if not binary:
        return Payload(head, {"Content-Type": "application/json"})
    octets = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    return Payload(head + logits.tobytes() + targets.tobytes(), octets)


@lru_cache(maxsize=4)  # four of the largest: half a gigabyte
def payload(form: str, rows: int) -> Payload:
    """Return a request with a number of rows, in a format.

    Args:
        form: ``json``, ``npy``, ``npy-bool`` (bool targets), ``npy-octets`` (npy under another name), ``v2``
            (binary; each is a batch of one, so that Triton may batch several) or ``v2-json``.
        rows: The number of rows.
    """
    x, y = numbers(rows)
    if form == "json":
        return Payload(as_json(x, y), {"Content-Type": "application/json"})
    if form.startswith("v2"):
        return v2(x[None], y[None], binary=True) if form == "v2" else v2(x, y, binary=False)
    body = npy(x, y.astype(bool) if form == "npy-bool" else y)
    return Payload(body, {"Content-Type": MEDIA.get(form, "application/octet-stream")})

"""The numbers that are scored, and the bodies that carry them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from bench.formats import npy, v2

CLASSES: Final = 80
SIZES: Final = {"32x80": 32, "4,096x80": 4_096, "262,144x80": 262_144}
SMALL, MIDDLE, LARGE = SIZES

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Payload:
    """A request's body and what its headers say of it."""

    data: bytes
    headers: dict[str, str] = field(default_factory=dict)


def elements(size: str) -> int:
    """How many losses a request of a size has."""
    return SIZES[size] * CLASSES


@lru_cache(maxsize=1)
def numbers(size: str) -> tuple[Array, Array]:
    """Logits and 0/1 targets, float32."""
    rng = np.random.default_rng(0)
    shape = (SIZES[size], CLASSES)
    return rng.normal(0, 3, shape).astype(np.float32), (rng.random(shape) < 0.05).astype(np.float32)


@cache
def expected(size: str) -> float:
    """The mean, in float64."""
    x, y = (array.astype(np.float64) for array in numbers(size))
    return float(np.mean(np.maximum(x, 0) - x * y + np.log1p(np.exp(-np.abs(x)))))


@lru_cache(maxsize=4)  # of the largest, half a gigabyte
def payload(form: str, size: str) -> Payload:
    """The numbers of a size in a form.

    Args:
        form: ``json`` (tolist()), ``npy``, ``npy-bool`` (bool targets), ``v2`` (binary; each is a batch of
            one, so that Triton may batch several), or ``v2-json``; ``npy-octets`` is npy under another name.
        size: A name of `SIZES`.
    """
    x, y = numbers(size)
    plain = {"Content-Type": "application/json"}
    if form == "json":
        return Payload(json.dumps({"logits": x.tolist(), "targets": y.tolist()}).encode(), plain)
    if form in ("npy", "npy-bool", "npy-octets"):
        body = npy(x, y.astype(bool) if form == "npy-bool" else y)
        media = "application/octet-stream" if form == "npy-octets" else "application/x-npy"
        return Payload(body, {"Content-Type": media})
    if form == "v2":
        data, head = v2(x[None], y[None])
        octets = {"Content-Type": "application/octet-stream"}
        return Payload(data, octets | {"Inference-Header-Content-Length": str(head)})
    if form == "v2-json":
        inputs = [
            {"name": name, "shape": list(one.shape), "datatype": "FP32", "data": one.reshape(-1).tolist()}
            for name, one in (("logits", x), ("targets", y))
        ]
        return Payload(json.dumps({"inputs": inputs}).encode(), plain)
    raise ValueError(form)

"""Cases for the package's own tests, with what Python makes of them."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lossd_client import LossClient, LossResult

_ROWS: Final = 17
_CALLS: Final[Sequence[tuple[str, Mapping[str, str], Mapping[str, Any]]]] = (
    ("focal", {"logits": "x", "targets": "y"}, {"gamma": 2}),
    ("bce", {"logits": "x", "targets": "y"}, {}),
    ("bce", {"logits": "x", "targets": "soft"}, {"reduction": "sum", "label_smoothing": 0.1}),
    ("bce", {"probabilities": "p", "targets": "y", "weight": "w"}, {"normalizer": "weight"}),
    ("focal", {"logits": "x", "targets": "y", "mask": "m"}, {"alpha": None, "variant": "quality"}),
    ("focal", {"logits": "x", "targets": "y"}, {"reduction": "none", "alpha": [0.1, 0.2, 0.3, 0.4, 0.5]}),
    ("bce", {"logits": "x", "targets": "y", "pos_weight": "c"}, {"reduction": "none"}),
    ("bce", {"logits": "x", "targets": "y"}, {"axis": 0, "normalizer": "positives"}),
    ("bce", {"logits": "x", "targets": "rare"}, {"normalizer": "positives"}),
    ("bce", {"logits": "x", "targets": "rare"}, {"axis": 0, "normalizer": "positives"}),
    ("bce", {"logits": "x", "targets": "y"}, {"axis": 1}),
    ("bce", {"logits": "x", "targets": "y"}, {"axis": -2, "pos_weight": 3}),
    ("bce", {"logits": "x", "targets": "y"}, {"axis": [0, 1], "normalizer": 7}),
    ("bce", {"logits": "x", "targets": "i"}, {"targets_format": "index", "background_index": 5}),
    ("bce", {"logits": "x", "targets": "i"}, {"targets_format": "index", "ignore_index": 5}),
    ("bce", {"logits": "huge", "targets": "y"}, {"axis": 0}),
    ("bce", {"logits": "huge", "targets": "y"}, {"reduction": "none"}),
    ("asymmetric", {"logits": "x", "targets": "y"}, {"gamma_pos": 0.5, "clip": 0.1}),
    ("varifocal", {"probabilities": "p", "targets": "soft"}, {"axis": 0}),
    ("cross_entropy", {"logits": "x", "targets": "i"}, {"ignore_index": 5, "class_weight": [1, 2, 3, 4, 5]}),
    ("cross_entropy", {"logits": "x", "targets": "i", "weight": "v"}, {"ignore_index": 5, "axis": -1}),
    ("softmax_focal", {"logits": "x", "targets": "i"}, {"ignore_index": 5, "reduction": "none"}),
    ("dice", {"logits": "x", "targets": "y", "weight": "v"}, {"normalizer": "weight"}),
    ("tversky", {"logits": "x", "targets": "y"}, {"reduction": "none", "alpha": 0.3, "beta": 0.7}),
    ("squared", {"logits": "x", "targets": "p"}, {"axis": 0, "normalizer": 7}),
    ("hinge", {"logits": "x", "targets": "y"}, {"reduction": "sum"}),
    ("box", {"boxes": "b", "targets": "t"}, {"reduction": "none", "variant": "ciou"}),
    ("box", {"boxes": "b", "targets": "t"}, {"format": "cxcywh"}),
)
_REPORTS: Final[Sequence[tuple[str, Mapping[str, str], Mapping[str, Any], Mapping[str, Any]]]] = (
    ("bce", {"logits": "x", "targets": "y"}, {}, {}),
    (
        "focal",
        {"logits": "x", "targets": "y", "baseline": "p"},
        {
            "groups": {
                "camera": [("rear", "front", "\ufb01", "\U0001f4f7")[row % 4] for row in range(_ROWS)],
                "lens": [row % 3 - 1 for row in range(_ROWS)],
            },
            "ids": [f"{row:03}.jpg" for row in range(_ROWS)],
        },
        {"gamma": 2, "top": 3, "sweep": {"gamma": [0, 2]}, "row": "mean", "calibration_bins": 8},
    ),
    ("box", {"boxes": "b", "targets": "t"}, {"ids": list(range(_ROWS))}, {"variant": "giou"}),
    (
        "bce",
        {"logits": "x", "targets": "y", "mask": "m"},
        {"groups": ["b", "a"] * 8 + ["a"], "ids": list(range(100, 100 + _ROWS))},
        {"sections": ["groups", "top"], "first_row": 5, "pos_weight": 2},
    ),
)


def write_cases(folder: Path, client: LossClient) -> None:
    """Write cases.json, and the files that tests send."""
    rng = np.random.default_rng(22)
    x = rng.normal(size=(_ROWS, 5)).astype(np.float32) * 4
    y = rng.random((_ROWS, 5)) < 0.3
    np.save(folder / "x.npy", x)
    np.save(folder / "y.npy", y)
    np.savez(folder / "pair.npz", logits=x, targets=y)
    huge = np.where(y, -1e308, 1e308) * rng.random((_ROWS, 5))
    huge[:, 4] = np.where(y[:, 4], np.inf, -np.inf)
    arrays: dict[str, NDArray[Any]] = {
        "x": x,
        "y": y,
        "soft": rng.random((_ROWS, 5)),
        "p": rng.random((_ROWS, 5)).astype(np.float32),
        "w": rng.random((_ROWS, 1)),
        "m": rng.random((_ROWS, 5)) < 0.8,
        "c": rng.random(5) * 3,
        "rare": np.where(np.arange(5 * _ROWS) == 0, 0.25, 0.0).reshape(_ROWS, 5),  # positives below 1
        "v": rng.random(_ROWS),
        "b": np.sort(rng.random((_ROWS, 2, 2)), axis=1).reshape(_ROWS, 4),
        "t": np.sort(rng.random((_ROWS, 2, 2)), axis=1).reshape(_ROWS, 4),
        "i": rng.integers(0, 6, _ROWS).astype(np.int32),
        "huge": huge,
    }
    cases = {
        "arrays": {name: _array(array) for name, array in arrays.items()},
        "calls": [_call(client, arrays, *call) for call in _CALLS],
        "merges": [_merge(client, arrays, *call) for call in _CALLS if "pos_weight" not in call[1]],
        "reports": [_report(client, arrays, *report) for report in _REPORTS],
        "sums": [_sum(numbers) for numbers in _hostile()],
    }
    (folder / "cases.json").write_text(json.dumps(cases, allow_nan=False))


def _array(array: NDArray[Any]) -> dict[str, Any]:
    numbers = [repr(float(number)).replace("inf", "Infinity") for number in array.ravel()]
    return {"dtype": str(array.dtype), "shape": array.shape, "numbers": numbers}


def _call(
    client: LossClient,
    arrays: Mapping[str, NDArray[Any]],
    loss: str,
    names: Mapping[str, str],
    params: Mapping[str, Any],
) -> dict[str, Any]:
    tensors = {name: arrays[array] for name, array in names.items()}
    result: LossResult = getattr(client, loss)(**tensors, **params)
    return {**_named(loss, names, params), "expected": _figures(result)}


def _merge(
    client: LossClient,
    arrays: Mapping[str, NDArray[Any]],
    loss: str,
    names: Mapping[str, str],
    params: Mapping[str, Any],
) -> dict[str, Any]:
    bounds = [0, 6, 7, _ROWS]
    parts: list[LossResult] = []
    for start, end in pairwise(bounds):
        tensors = {name: arrays[array][start:end] for name, array in names.items()}
        parts.append(getattr(client, loss)(**tensors, **params))
    return {**_named(loss, names, params), "bounds": bounds, "expected": _figures(LossResult.merge(parts))}


def _named(loss: str, names: Mapping[str, str], params: Mapping[str, Any]) -> dict[str, Any]:
    given = ", ".join([*names, *(f"{name}={value}" for name, value in params.items())])
    return {"name": f"{loss} of {given}", "loss": loss, "arrays": names, "params": params}


def _figures(result: LossResult) -> dict[str, Any]:
    return {**result.to_dict(), "loss_shape": np.shape(result.loss)}


def _report(
    client: LossClient,
    arrays: Mapping[str, NDArray[Any]],
    loss: str,
    names: Mapping[str, str],
    labels: Mapping[str, Any],
    params: Mapping[str, Any],
) -> dict[str, Any]:
    tensors = {name: arrays[array] for name, array in names.items()}
    ask: Any = client.report
    document = dict(ask(loss, **tensors, **labels, **params).to_dict())
    del document["run"]
    return {**_named(loss, names, params), "labels": labels, "expected": document}


def _hostile() -> Iterator[list[float]]:
    """Numbers whose sum is easily wrong."""
    top, least = 1.7976931348623157e308, 5e-324
    yield from (
        [],
        [-0.0],
        [0.1] * 10,
        [1e16, 1.0, 1e-16],
        [1e16, 1.0, 1e-300],
        [1e16, 1.0, -1e-300],
        [2.0**53, 1.0, 1.0],
        [2.0**53, 1.0],
        [2.0**53 + 2, 1.0],
        [least],
        [least, least, -least],
        [2.0**-1022, -least],
        [2.0**-1022, least, 2.0**-1023],
        [top],
        [-top, top],
        [1e308, 1e308, -1e308],
        [top, 2.0**969],
        [top, 2.0**970],
        [top, 2.0**970, -least],
        [-top, -(2.0**970)],
        [top] * 3 + [-top] * 2,
        [math.inf, 1.0],
        [math.inf, -math.inf],
        [math.nan, math.inf],
    )
    draw = random.Random(22)
    for _ in range(300):
        spread = draw.choice([0, 5, 60, 1000])
        numbers = [
            math.ldexp(draw.uniform(-1, 1), draw.randint(-spread, min(spread, 1020)))
            for _ in range(draw.randint(1, 40))
        ]
        if draw.random() < 0.5:  # they nearly cancel
            numbers += [-number for number in numbers]
            numbers.append(math.ldexp(draw.uniform(-1, 1), draw.randint(-spread, 0)))
            draw.shuffle(numbers)
        yield numbers


def _sum(numbers: list[float]) -> dict[str, Any]:
    if not all(map(math.isfinite, numbers)):
        special = sum(number for number in numbers if not math.isfinite(number))
        terms = [special]
    else:
        terms, rest = [], sum(map(Fraction, numbers), Fraction(0))
        while rest or not terms:
            try:
                terms.append(float(rest))  # rounds once
            except OverflowError:
                terms = [math.inf if rest > 0 else -math.inf]
                break
            rest -= Fraction(terms[-1])
        if abs(math.fsum(number / 4 for number in numbers)) < 1e307:  # else it gives up on the way
            assert math.fsum(numbers) == terms[0]
    return {"numbers": list(map(_text, numbers)), "sum": _text(terms[0]), "terms": list(map(_text, terms))}


def _text(number: float) -> str:
    return {"inf": "Infinity", "-inf": "-Infinity", "nan": "NaN"}.get(repr(number), repr(number))

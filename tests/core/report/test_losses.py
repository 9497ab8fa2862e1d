"""Reports of every loss of the catalog: both kernels' documents are the same, and of the published schema."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import numpy as np
import pytest

from core.report.cases import REPORTING
from core.report.row_cases import RowCase, row_case, scored
from core.scoring import NATIVE
from lossd.core.catalog import LOSSES
from lossd.core.losses.kernel import TorchKernel
from lossd.core.native.kernel import NativeKernel
from lossd.wire import report_schema

SEEDS = range(6)
VALIDATOR = jsonschema_rs.Draft202012Validator(report_schema())


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", LOSSES)
def test_kernels_come_to_the_same_document(name: str, seed: int) -> None:
    case = row_case(name, seed)
    expected = scored(TorchKernel(), case).document
    sections = {"totals", "top", "histogram", "calibration", "classes"} - set(LOSSES[name].without)
    assert sections <= expected.keys()
    VALIDATOR.validate({**expected, "run": run(expected)})
    for kernel in REPORTING:
        assert scored(kernel, case).document == expected, kernel


@pytest.mark.parametrize("soft", [False, True], ids=["ids", "dense"])
@pytest.mark.parametrize("name", [name for name, loss in LOSSES.items() if loss.row == "classes"])
def test_the_top_class_is_calibrated_alone_where_classes_are_too_many(name: str, soft: bool) -> None:
    rng, rows, classes = np.random.default_rng(5), 9, 5000
    logits = rng.normal(0, 3, (rows, classes)).astype("f4")
    logits[2, 7] = np.nan
    targets = rng.dirichlet(np.full(classes, 0.01), rows) if soft else rng.integers(0, classes, rows)
    params: dict[str, object] = {"allow_nan": True, "targets_format": "dense" if soft else "index"}
    found = []
    for bins in (64, 40):
        report: dict[str, object] = {"report": ("all",), "calibration_bins": bins}
        case = RowCase(LOSSES[name], {"logits": logits, "targets": targets}, params, report)
        found.append(scored(TorchKernel(), case).document["calibration"])
        for kernel in REPORTING:
            assert scored(kernel, case).document["calibration"] == found[-1], kernel
    most, fewer = found
    assert "classes" not in most
    assert len(fewer["classes"]["count"]) == classes
    for figure in ("soft", "undefined", "brier_terms", "cross_entropy_terms"):
        assert most[figure] == fewer[figure]
    with np.errstate(all="ignore"):
        e = np.exp(np.delete(logits, 2, 0).astype(float))
    confidence = (e / e.sum(1, keepdims=True)).max(1)
    expected = np.bincount((confidence * 64).astype(int), minlength=64)
    assert most["count"] == expected.tolist()


@pytest.mark.skipif(NATIVE is None, reason="needs the native kernel")
@pytest.mark.parametrize("name", [name for name, loss in LOSSES.items() if loss.row])
def test_threads_and_parts_come_to_the_same_document(name: str) -> None:
    case = row_case(name, 0)
    rng, rows = np.random.default_rng(3), 20_000
    for each, array in (case.tensors | case.lists).items():
        if each not in case.lists:
            case.tensors[each] = array[rng.integers(0, len(array), rows)]
    if "ids" in case.tensors:
        case.tensors["ids"] = rng.permutation(rows)
    case.elements = rows
    expected = scored(NativeKernel(), case).document
    assert scored(NativeKernel(threads=3), case).document == expected
    case.elements = 3000
    assert scored(NativeKernel(threads=2), case).document == expected


def run(document: dict[str, Any]) -> dict[str, Any]:
    return {"version": "", "kernel": "", "device": "", "request_id": "", **document["run"]}

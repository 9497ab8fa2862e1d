"""Reports of every loss of the catalog: both kernels' documents are the same, and of the published schema."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import numpy as np
import pytest

from core.report.cases import REPORTING
from core.report.row_cases import row_case, scored
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

"""Reports of every loss of the catalog: both kernels' documents are the same, and of the published schema."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest

from core.report.cases import REPORTING
from core.report.row_cases import row_case, scored
from lossd.core.catalog import LOSSES
from lossd.core.losses.kernel import TorchKernel
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


def run(document: dict[str, Any]) -> dict[str, Any]:
    return {"version": "", "kernel": "", "device": "", "request_id": "", **document["run"]}

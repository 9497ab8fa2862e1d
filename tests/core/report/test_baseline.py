"""Values that are not allowed in a baseline are errors, as in the inputs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from core.report.cases import REPORTING, ReportJob, score
from core.scoring import Array, lay
from lossd.core.catalog import LOSSES
from lossd.core.kernel import Kernel
from lossd.core.parameters import check_params
from lossd.core.prepare import prepare
from lossd.types import RequestError

SHAPE = (40, 50)


def job(tensors: dict[str, Array], **params: object) -> ReportJob:
    checked = check_params(LOSSES["bce"], params) | {"report": ("paired",)}
    laid, body = lay({"targets": np.zeros(SHAPE), **tensors}, frozenset())
    return ReportJob(prepare("bce", checked, SHAPE, (0, 1), 1 << 15, laid), body, laid)


def spoiled(value: float) -> Array:
    values = np.full(SHAPE, 0.5)
    values[30, 7] = values[35, 0] = value
    return values


@pytest.mark.parametrize("kernel", REPORTING, ids=lambda kernel: kernel.name)
@pytest.mark.parametrize(
    ("kind", "value", "code"),
    [
        ("logits", math.nan, "non_finite_input"),
        ("probabilities", math.nan, "non_finite_input"),
        ("probabilities", 1.5, "probability_out_of_range"),
        ("probabilities", -0.1, "probability_out_of_range"),
    ],
)
def test_the_first_wrong_value_is_named(kernel: Kernel, kind: str, value: float, code: str) -> None:
    with pytest.raises(RequestError) as caught:
        score(kernel, job({kind: np.full(SHAPE, 0.5), "baseline": spoiled(value)}), 0)
    assert caught.value.code == code
    assert [pointer for pointer, _ in caught.value.errors] == ["/baseline/30/7"]


@pytest.mark.parametrize("kernel", REPORTING, ids=lambda kernel: kernel.name)
def test_values_of_dropped_elements_do_not_matter(kernel: Kernel) -> None:
    mask = np.ones(SHAPE)
    mask[30, 7] = mask[35, 0] = 0.0
    tensors = {"logits": np.full(SHAPE, 0.5), "baseline": spoiled(math.nan), "mask": mask.astype(bool)}
    found, _ = score(kernel, job(tensors), 0)
    assert found.count == 40 * 50 - 2
    score(kernel, job(tensors | {"mask": np.ones(SHAPE, bool)}, allow_nan=True), 0)


@pytest.mark.parametrize("kernel", REPORTING, ids=lambda kernel: kernel.name)
def test_other_tensors_are_checked_first(kernel: Kernel) -> None:
    tensors = {"logits": np.full(SHAPE, 0.5), "baseline": spoiled(math.nan), "weight": -np.ones(SHAPE)}
    with pytest.raises(RequestError) as caught:
        score(kernel, job(tensors), 0)
    assert caught.value.errors[0][0] == "/weight/0/0"

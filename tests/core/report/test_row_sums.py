"""Sums of rows that lie just beside a tie of two float64 numbers, whose last term decides."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from core.report.cases import REPORTING
from core.scoring import Array
from lossd.core.catalog import LOSSES
from lossd.core.kernel import Kernel
from lossd.core.parameters import check_params
from lossd.core.prepare import prepare
from lossd.core.report.partial import Partial
from lossd.types import Tensor

PARTS = (1.0, 2.0**-53, 2.0**-54, 2.0**-80, 2.0**-200, 2.0**-1060)


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("length", [3, 6, 17, 40])
@pytest.mark.parametrize("kernel", REPORTING, ids=lambda kernel: kernel.name)
def test_a_row_is_rounded_once(kernel: Kernel, length: int, *, grouped: bool) -> None:
    drawn = itertools.islice(itertools.combinations_with_replacement(PARTS, 3), 56)
    weight = np.zeros((56, length))
    for row, parts in enumerate(drawn):
        weight[row, :3] = parts  # the loss of a logit of 64 and a target of 0 is 64
    weight[:, :3] /= 64.0
    logits, targets = np.full(weight.shape, 64.0), np.zeros(weight.shape)
    arrays: dict[str, Array] = {"logits": logits, "targets": targets, "weight": weight}
    if grouped:
        arrays["groups"] = np.zeros(len(weight), np.int64)
    body = b"".join(array.tobytes() for array in arrays.values())
    starts = itertools.accumulate([0, *(array.nbytes for array in arrays.values())])
    tensors = {
        name: Tensor(array.dtype.name, array.shape, start)
        for (name, array), start in zip(arrays.items(), starts, strict=False)
    }
    params = check_params(LOSSES["bce"], {"report": ["all"] if grouped else ["top"], "top": len(weight)})
    work = prepare("bce", params, weight.shape, (0, 1), weight.size, tensors)
    assert work.report is not None
    memory = memoryview(bytearray(work.report.most_bytes(*weight.shape[:1], weight.size)))
    written = kernel.score(work, body, 0, 0, (), memory).report
    found = {entry["row"]: entry["loss"] for entry in Partial.read(memory[:written]).lists["rows"]}
    assert found == {
        row: math.fsum(64.0 * part for part in parts) for row, parts in enumerate(weight.tolist())
    }

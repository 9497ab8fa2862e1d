"""The native kernel and the torch kernel: the same bits, and the same errors, for every loss.

Reports have their own test (`core.report.test_definition`).
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

from core.native.cases import NATIVE, Case, cases
from lossd.core.exact_sum import ExactArray, ExactSum
from lossd.core.kernel import Kernel
from lossd.core.losses.kernel import TorchKernel
from lossd.core.native.kernel import NativeKernel
from lossd.core.native.library import WIDTHS, best_width, why_missing
from lossd.types import RequestError

COUNT = int(os.environ.get("LOSSD_NATIVE_CASES", "60"))
SEED = int(os.environ.get("LOSSD_NATIVE_SEED", "0"))

pytestmark = pytest.mark.skipif(why_missing() is not None, reason=f"no native kernel: {why_missing()}")


def outcome(kernel: Kernel, case: Case) -> object:
    """What a part comes to, in a form that is equal for equal bits."""
    part = case.work.cut.part(case.index)
    memories = [np.empty(case.work.cut.most_numbers(case.index)) for _ in range(case.work.channels)]
    try:
        found = kernel.score(case.work, case.body, case.offset, case.index, memories)
    except RequestError as fault:
        return fault.code, fault.detail, fault.errors
    outputs = []
    for planes, memory in zip(found.planes, memories, strict=True):
        exact = ExactArray()
        for plane in memory[: planes * part.outputs].reshape(planes, part.outputs):
            exact.add(plane)
        outputs.append(exact.value.tobytes())
    sums = [None if each is None else terms(each) for each in (found.loss, found.weights, found.positives)]
    return sums, found.count, outputs


def terms(values: list[float]) -> list[str]:
    return [repr(term) for term in ExactSum(values).terms]


@pytest.mark.parametrize("loss", NATIVE)
def test_both_give_the_same_bits(loss: str) -> None:
    torch, seen = TorchKernel(), set()
    for case in cases(COUNT, SEED, loss, reports=False):
        native = NativeKernel(case.threads)
        expected = outcome(torch, case)
        assert outcome(native, case) == expected, described(case)
        seen.add(isinstance(expected[0], str))  # type: ignore[index] # a tuple
    assert seen == {False, True}  # numbers, and errors


@pytest.mark.parametrize("loss", NATIVE)
def test_neither_blocks_nor_threads_nor_widths_change_a_bit(loss: str) -> None:
    widths = [width for width in WIDTHS[WIDTHS.index(best_width()) :] if width != "neon"]
    for case in cases(COUNT, SEED + 1, loss, reports=False):
        expected = outcome(NativeKernel(), case)
        others = [NativeKernel(3), NativeKernel(8), *(NativeKernel(1, width) for width in widths[1:])]
        assert all(outcome(kernel, case) == expected for kernel in others), described(case)
        if not isinstance(expected[0], str):  # type: ignore[index]
            assert outcome(TorchKernel(block=50), case) == expected, described(case)


def described(case: Case) -> dict[str, Any]:
    work = case.work
    operands = [*work.of_elements, *work.of_losses, *work.of_classes]
    return {
        "loss": work.loss,
        "own": work.own,
        "shape": work.cut.shape,
        "axes": work.cut.axes,
        "row": work.row_size,
        "tensors": [(operand.name, operand.tensor) for operand in operands],
        "ignored": work.ignore_index,
    }

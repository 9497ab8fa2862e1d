from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import reference
from core.scoring import KERNELS
from lossd.core import self_test
from lossd.core.kernel import Kernel, WrongAnswerError
from lossd.core.losses.kernel import TorchKernel


def test_the_known_answers_are_true() -> None:
    for x, y, cross_entropy, focal in self_test.KNOWN:
        assert cross_entropy == float(reference.bce(x, y))
        assert focal == float(reference.focal(x, y))


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
def test_a_sound_kernel_passes(kernel: Kernel) -> None:
    self_test.check_known_answers(kernel)


def test_a_kernel_that_loses_the_tail_does_not() -> None:
    class Careless(TorchKernel):
        def _losses(self, work: Any, loaded: Any) -> Tensor:  # noqa: ANN401 -- the kernel's own
            del work
            logits, targets = loaded.inputs, loaded.y
            return torch.nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")

    with pytest.raises(WrongAnswerError, match="bce of"):
        self_test.check_known_answers(Careless())

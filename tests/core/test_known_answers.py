from __future__ import annotations

import pytest
import torch
from torch import Tensor

import reference
from core.scoring import KERNELS
from lossd.core import known_answers
from lossd.core.elements import Element
from lossd.core.kernel import Kernel, WrongAnswerError
from lossd.core.torch_kernel import TorchKernel


def test_the_known_answers_are_true() -> None:
    for x, y, cross_entropy, focal in known_answers.KNOWN:
        assert cross_entropy == float(reference.bce(x, y))
        assert focal == float(reference.focal(x, y))


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
def test_a_sound_kernel_passes(kernel: Kernel) -> None:
    known_answers.check_known_answers(kernel)


def test_a_kernel_that_loses_the_tail_does_not() -> None:
    class Careless(TorchKernel):
        def __init__(self) -> None:
            super().__init__()

            def loses_the_tail(x: object, y: Tensor, *_: object) -> Element:
                cases = (known_answers.KNOWN * len(y))[: len(y)]
                logits = torch.tensor([case[0] for case in cases], dtype=torch.float64)
                losses = torch.nn.functional.binary_cross_entropy_with_logits(logits, y, reduction="none")
                return Element(losses)

            self._functions["bce"] = loses_the_tail

    with pytest.raises(WrongAnswerError, match="bce of"):
        known_answers.check_known_answers(Careless())

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import reference
from lossd.core import known_answers
from lossd.core.element import Element
from lossd.core.kernel import EagerKernel


def test_the_known_answers_are_true() -> None:
    for x, y, cross_entropy, focal in known_answers.KNOWN:
        assert cross_entropy == float(reference.bce(x, y))
        assert focal == float(reference.focal(x, y))


def test_a_sound_kernel_passes() -> None:
    known_answers.check_known_answers(EagerKernel())


def test_a_kernel_that_loses_the_tail_does_not() -> None:
    class Careless(EagerKernel):
        def __init__(self) -> None:
            super().__init__()

            def loses_the_tail(x: object, y: Tensor, z: Tensor, *_: object) -> Element:
                logits = torch.tensor([case[0] for case in known_answers.KNOWN], dtype=torch.float64)
                padded = torch.zeros_like(y)
                padded[: len(logits)] = logits
                losses = torch.nn.functional.binary_cross_entropy_with_logits(padded, y, reduction="none")
                return Element(losses)

            self._functions["bce"] = loses_the_tail

    with pytest.raises(known_answers.WrongAnswerError, match="bce of"):
        known_answers.check_known_answers(Careless())

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from core.known_values import TRUE
from core.scoring import KERNELS
from lossd.core import self_test
from lossd.core.catalog import LOSSES
from lossd.core.kernel import Kernel, WrongAnswerError
from lossd.core.losses.kernel import TorchKernel
from lossd.core.self_test import KNOWN

NATIVE = [loss.name for loss in LOSSES.values() if loss.is_native]


@pytest.mark.parametrize("loss", NATIVE)
def test_the_known_answers_are_true(loss: str) -> None:
    known = KNOWN[loss]
    for inputs, targets, value in zip(known.inputs, known.targets, known.losses, strict=True):
        assert value == float(TRUE[loss](inputs, targets)), (inputs, targets)


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


@pytest.mark.parametrize("loss", NATIVE)
def test_a_wrong_answer_of_any_loss_is_found(loss: str, monkeypatch: pytest.MonkeyPatch) -> None:
    known = KNOWN[loss]
    other = known._replace(losses=(*known.losses[:-1], known.losses[-1] * (1 + 2.0**-40)))
    monkeypatch.setattr(self_test, "KNOWN", {**KNOWN, loss: other})
    with pytest.raises(WrongAnswerError, match=f"{loss} of"):
        self_test.check_known_answers(KERNELS[0])


def test_every_built_in_loss_has_known_answers() -> None:
    assert set(NATIVE) - set(KNOWN) == set(), "losses without known answers"
    assert set(KNOWN) - set(NATIVE) == set()

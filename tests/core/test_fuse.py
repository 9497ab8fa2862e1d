"""Compiled functions: called directly where torch's insides are as expected, else through torch.compile."""

from __future__ import annotations

import logging
import shutil

import numpy as np
import pytest
import torch

from core.scoring import KERNEL as EAGER
from core.scoring import work
from lossd.core import fuse
from lossd.core.compiled import CompiledKernel
from lossd.core.fuse import Tensors

pytestmark = [
    pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++, which the compiler needs"),
    pytest.mark.timeout(300),
]


def scaled(tensors: Tensors) -> tuple[torch.Tensor, ...]:
    return (tensors["rows"].double().sum(1) * tensors["factor"],)


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_it_takes_any_number_of_rows(rows: int, caplog: pytest.LogCaptureFixture) -> None:
    examples = {"rows": torch.zeros(3, 4), "factor": torch.zeros(1)}
    fused = fuse.fuse(scaled, examples)
    values = torch.arange(4.0 * rows).view(rows, 4)
    (got,) = fused([values, torch.tensor([0.5])])
    assert got.tolist() == (values.sum(1) * 0.5).tolist()
    assert "lossd.core.fuse" not in {record.name for record in caplog.records}  # no word of the other way


def test_a_torch_with_other_insides_is_called_the_common_way(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def absent(function: fuse.Function, examples: Tensors) -> fuse.Fused:
        msg = "no such thing in torch._inductor"
        raise ImportError(msg)

    monkeypatch.setattr(fuse, "_lower", absent)
    rng = np.random.default_rng(3)
    kernel = CompiledKernel()
    with caplog.at_level(logging.WARNING):
        for n in (77, 5000, 3 * 32768):
            tensors = {"logits": rng.normal(0, 4, n).astype(np.float32), "targets": rng.random(n) < 0.5}
            for job in (work("bce", tensors), work("focal", tensors)):
                last = job.grid.blocks
                eager = EAGER.score(job, 0, last).sum.value
                assert kernel.score(job, 0, last).sum.value == pytest.approx(eager, rel=1e-14)
    assert "no such thing in torch._inductor" in caplog.text

"""What a device copies: the same bits from every layout, and from memory that is registered with it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from core.scoring import figures, figures_by, work
from lossd.core.losses.kernel import TorchKernel
from lossd.core.losses.pinned import PinnedMemory
from lossd.core.self_test import check_known_answers

RNG = np.random.default_rng(3)
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def test_memory_that_may_be_written_is_read_where_it_lies() -> None:
    given: dict[str, Any] = {"logits": RNG.normal(0, 5, (700, 90)), "targets": RNG.random((700, 90))}
    job = work("focal", given)
    arena = bytearray(b"x" * 64) + job.body
    found = TorchKernel().score(job.work, memoryview(arena), 64, 0)
    assert found.loss == TorchKernel().score(job.work, job.body, 0, 0).loss


def test_on_a_cpu_memory_is_not_registered() -> None:
    memory = PinnedMemory(memoryview(bytearray(4096)), torch.device("cpu"))
    assert memory._address is None
    memory.close()


@pytest.mark.gpu
@needs_cuda
def test_cuda_copies_from_registered_memory_and_from_any() -> None:
    kernel = TorchKernel("cuda:0")
    check_known_answers(kernel)
    n = (3 << 22) + 77
    given: dict[str, Any] = {"logits": RNG.normal(0, 5, n).astype(np.float32), "targets": RNG.random(n)}
    job = work("focal", given, elements=1 << 24)
    expected = figures(job).sum.terms
    arena = bytearray(job.body)
    for device in ("cpu", "cuda:0"):
        pinned = PinnedMemory(memoryview(arena), torch.device(device))
        assert (pinned._address is not None) is (device != "cpu")
        for _ in range(3):
            assert kernel.score(job.work, memoryview(arena), 0, 0).loss == expected
        pinned.close()


@pytest.mark.gpu
@needs_cuda
def test_cuda_without_memory_takes_shorter_blocks() -> None:
    kernel = TorchKernel("cuda:0")
    n = 1 << 23
    given: dict[str, Any] = {"logits": RNG.normal(0, 5, n).astype(np.float32), "targets": RNG.random(n)}
    job = work("focal", given, gamma=2.3, elements=1 << 24)
    expected = figures_by(kernel, job)
    torch.cuda.empty_cache()
    _, total = torch.cuda.mem_get_info()
    held = torch.cuda.memory_reserved()
    try:  # room for some of a block's temporaries, 32 MiB each, and not for all
        torch.cuda.set_per_process_memory_fraction((held + (160 << 20)) / total)
        assert figures_by(kernel, job).sum.terms == expected.sum.terms
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)

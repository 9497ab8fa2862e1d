"""Copying a block's bytes to the device gives what reading them on the host gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from core.scoring import KERNEL, bits, work
from lossd.core.grid import BLOCK, DEVICE_BLOCK, Grid
from lossd.core.kernel import EagerKernel, Score
from lossd.core.known_answers import check_known_answers
from lossd.core.pinned import PinnedMemory

RNG = np.random.default_rng(12)
SHAPE = (1300, 60)
COPIED = EagerKernel(copied=True)
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def misaligned(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The same numbers, where no element lies at a multiple of its size."""
    memory = np.zeros(array.nbytes + 1, dtype=np.uint8)
    view = memory[1:].view(array.dtype).reshape(array.shape)
    view[:] = array
    return view


def layouts() -> dict[str, dict[str, Any]]:
    x = RNG.normal(0, 5, SHAPE).astype(np.float32)
    hard = RNG.random(SHAPE) < 0.2
    return {
        "float32 and bool": {"logits": x, "targets": hard},
        "float64": {"logits": x.astype(np.float64), "targets": RNG.random(SHAPE)},
        "float16 and int64": {"logits": x.astype(np.float16), "targets": hard.astype(np.int64)},
        "big-endian": {"logits": x.astype(">f4"), "targets": hard.astype(">i2")},
        "misaligned": {"logits": misaligned(x), "targets": hard},
        "fortran": {"logits": np.asfortranarray(x), "targets": np.asfortranarray(hard)},
        "all tensors": {
            "logits": x,
            "targets": hard,
            "weight": RNG.random((SHAPE[0], 1)).astype(np.float32),
            "mask": hard,
            "pos_weight": RNG.random(SHAPE[1]),
            "alpha": RNG.random(SHAPE[1]),
        },
    }


@pytest.mark.parametrize("axis", [None, 0, 1])
@pytest.mark.parametrize("layout", layouts())
def test_it_gives_the_same_bits(layout: str, axis: int | None) -> None:
    over: dict[str, Any] = {} if axis is None else {"axis": axis}
    given = layouts()[layout]
    for loss in ("bce", "focal") if "alpha" not in given else ("focal",):
        job = work(loss, given, **over)
        assert bits(COPIED, job) == bits(KERNEL, job)


def test_bfloat16_and_class_ids() -> None:
    halves = (RNG.normal(0, 5, SHAPE).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    many = (4, 1 << 17)  # classes that are not laid down
    for shape, logits, kinds in (
        (SHAPE, halves, frozenset({"logits"})),
        (many, RNG.normal(0, 5, many), frozenset()),
    ):
        ids = RNG.integers(0, shape[1], shape[0])
        job = work("focal", {"logits": logits, "targets": ids}, kinds, targets_format="index")
        assert bits(COPIED, job) == bits(KERNEL, job)


def test_requests_in_each_others_pauses_keep_their_copies() -> None:
    """Each has its next block fetched while the others stage theirs."""
    jobs = [
        work("bce", {"logits": RNG.normal(0, 5, 5 * BLOCK).astype(">f8"), "targets": RNG.random(5 * BLOCK)})
        for _ in range(3)
    ]
    scores = [Score.of(job) for job in jobs]
    steps = [COPIED.steps(job, 0, 5, score) for job, score in zip(jobs, scores, strict=True)]
    assert list(zip(*steps, strict=True)) == [(n, n, n) for n in range(1, 6)]
    for job, score in zip(jobs, scores, strict=True):
        assert score.sum.terms == KERNEL.score(job, 0, 5).sum.terms


def test_on_a_cpu_memory_is_not_registered() -> None:
    memory = PinnedMemory(memoryview(bytearray(4096)), torch.device("cpu"))
    assert not memory.registered
    memory.close()


@pytest.mark.gpu
@needs_cuda
def test_cuda_copies_from_registered_memory_and_from_any() -> None:
    device = torch.device("cuda:0")
    kernel = EagerKernel("cuda:0")
    check_known_answers(kernel)
    n = 3 * DEVICE_BLOCK + 77
    arena = bytearray(8 * n)
    for registered in (False, True):
        pinned = PinnedMemory(memoryview(arena), device if registered else torch.device("cpu"))
        assert pinned.registered is registered
        logits = np.frombuffer(arena, dtype=np.float32, count=n)
        targets = np.frombuffer(arena, dtype=np.float32, count=n, offset=4 * n)
        logits[:] = RNG.normal(0, 5, n)
        targets[:] = RNG.random(n)
        short = work("focal", {"logits": logits, "targets": targets})
        job = short._replace(grid=Grid((n,), (0,), DEVICE_BLOCK))
        found = {bits(kernel, job) for _ in range(3)}
        pinned.close()
        assert len(found) == 1
        on_cpu = KERNEL.score(short, 0, short.grid.blocks).sum.value
        on_device = kernel.score(job, 0, job.grid.blocks).sum.value
        assert on_device == pytest.approx(on_cpu, rel=1e-13)


@pytest.mark.gpu
@needs_cuda
def test_cuda_without_memory_takes_pieces() -> None:
    kernel = EagerKernel("cuda:0")
    n = 2 * DEVICE_BLOCK
    given: dict[str, Any] = {"logits": RNG.normal(0, 5, n).astype(np.float32), "targets": RNG.random(n)}
    job = work("focal", given, gamma=2.3)
    job = job._replace(grid=Grid((n,), (0,), DEVICE_BLOCK))
    expected = bits(kernel, job)
    torch.cuda.empty_cache()
    _, total = torch.cuda.mem_get_info()
    held = torch.cuda.memory_reserved()
    try:  # room for some of a block's temporaries, 32 MiB each, and not for all
        torch.cuda.set_per_process_memory_fraction((held + (160 << 20)) / total)
        assert bits(kernel, job) == expected
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)

"""A device without the memory for a block gets shorter pieces of it, which come to the same bits."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from core.scoring import BLOCK, figures, figures_by, sums, sums_by, work
from lossd.core.losses.kernel import TorchKernel
from lossd.types import RequestError

RNG = np.random.default_rng(6)
ROWS, CLASSES = 1100, 41  # two blocks, the second short


class SmallDevice(TorchKernel):
    """A CPU whose losses are computed of at most so many elements; it notes how many it was asked for."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room
        self.asked: list[int] = []

    def _losses(self, work: Any, loaded: Any) -> torch.Tensor:  # noqa: ANN401 -- the kernel's own
        self.asked.append(len(loaded.y))
        if len(loaded.y) > self.room:
            msg = "injected"
            raise torch.OutOfMemoryError(msg)
        return super()._losses(work, loaded)


def tensors() -> dict[str, Any]:
    return {
        "logits": RNG.normal(0, 9, (ROWS, CLASSES)).astype(np.float32),
        "targets": RNG.random((ROWS, CLASSES)),
    }


def loaded() -> dict[str, Any]:
    return {
        **tensors(),
        "weight": RNG.random(CLASSES),
        "mask": RNG.random((ROWS, 1)) < 0.8,
        "pos_weight": RNG.random(CLASSES),
        "alpha": RNG.random(CLASSES),
    }


def spoilt() -> dict[str, Any]:
    found = tensors()
    found["logits"][7, 3], found["logits"][900, 3], found["targets"][900, 3] = math.nan, math.inf, 0.0
    return found


def by_index() -> dict[str, Any]:
    return {"logits": tensors()["logits"], "targets": RNG.integers(0, CLASSES, ROWS)}


CASES: dict[str, tuple[str, Callable[[], dict[str, Any]], dict[str, Any]]] = {
    "plain": ("bce", tensors, {}),
    "an uncommon gamma": ("focal", tensors, {"gamma": 2.7}),
    "all tensors, a loss a class": ("focal", loaded, {"axis": 0, "normalizer": "weight"}),
    "all tensors, a loss a sample": ("focal", loaded, {"axis": 1, "normalizer": "positives"}),
    "every element": ("focal", loaded, {"reduction": "none"}),
    "class ids": ("bce", by_index, {"targets_format": "index", "label_smoothing": 0.1, "ignore_index": 3}),
    "NaN and infinity": ("focal", spoilt, {"allow_nan": True}),
}


@pytest.mark.slow
@pytest.mark.parametrize("room", [4096, 20_000])
@pytest.mark.parametrize("case", CASES)
def test_shorter_blocks_come_to_the_same_bits(case: str, room: int) -> None:
    loss, make, params = CASES[case]
    job = work(loss, make(), elements=1 << 30, **params)
    small = SmallDevice(room)
    assert repr(figures_by(small, job).sum.terms) == repr(figures(job).sum.terms)
    for channel in range(job.work.channels):
        assert sums_by(small, job, channel).tobytes() == sums(job, channel).tobytes()
    assert max(small.asked) > room  # it did not fit
    assert min(small.asked) <= room


def test_blocks_are_halved_and_every_part_is_tried_with_long_ones() -> None:
    small = SmallDevice(BLOCK // 4)
    figures_by(small, work("bce", {"logits": np.zeros(2 * BLOCK), "targets": np.zeros(2 * BLOCK)}))
    assert small.asked == [BLOCK, BLOCK // 2, *[BLOCK // 4] * 4] * 2


def test_a_device_without_the_least_memory_fails_the_request_and_no_other() -> None:
    small = SmallDevice(1000)
    job, other = work("bce", tensors()), work("bce", {"logits": np.zeros(900), "targets": np.zeros(900)})
    with pytest.raises(torch.OutOfMemoryError, match="injected"):
        figures_by(small, job)
    assert min(small.asked) == 4096
    assert figures_by(small, other).sum.terms == figures(other).sum.terms
    small.room = BLOCK
    assert figures_by(small, job).sum.terms == figures(job).sum.terms


def test_a_fault_in_a_short_block_is_named_by_its_place_in_the_request() -> None:
    given = tensors()
    given["logits"][1050, 20], given["targets"][1050, 20] = 30.0, 1.5  # (1 - p_t) is negative
    with pytest.raises(RequestError) as caught:
        figures_by(SmallDevice(5000), work("focal", given, elements=1 << 30))
    assert caught.value.errors[0][0] == "/targets/1050/20"

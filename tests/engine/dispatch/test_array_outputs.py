from __future__ import annotations

import numpy as np
import pytest

from lossd.core.catalog import LOSSES
from lossd.core.parameters import check_params, reduced_axes
from lossd.engine.dispatch.array_outputs import MOST_NUMBERS, ArrayOutputs, cut_for, output_bytes
from lossd.engine.ipc.memory import Memory, create_memory
from lossd.settings import Settings
from lossd.types import LossRequest, Tensor

ELEMENTS = 1 << 24


@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        ((1 << 20, 80), 0),
        ((1000, 50_000), 0),
        ((3, 10_000_000), 0),
        ((4, 3, 2_000_000), 1),
        ((2, 40_000_000), 1),
        ((100, 1000, 1000), (0, 2)),
    ],
)
def test_what_a_slice_leaves_to_be_added_up_is_bounded(
    shape: tuple[int, ...], axis: int | tuple[int, ...]
) -> None:
    given = {"axis": list(axis) if isinstance(axis, tuple) else axis, "normalizer": "positives"}
    params = check_params(LOSSES["bce"], given)
    cut = cut_for(shape, reduced_axes(params, shape), ELEMENTS)
    if not cut.complete:
        assert cut.most_numbers(0) <= MOST_NUMBERS
    tensors = {name: Tensor("float32", shape, 0) for name in ("logits", "targets")}
    needed = output_bytes(LossRequest("bce", tensors, params, {}), cut)
    sums = 8 * cut.outputs * (2 if cut.complete else 6)
    settings = Settings()
    assert needed - sums <= settings.output_bytes - settings.max_output_bytes


def test_sums_over_nothing_lie_in_the_arena() -> None:
    cut = cut_for((1000, 0), (1,), 100)
    memory = Memory(create_memory(1 << 16), 1 << 16)
    memory.view[:] = b"\xff" * (1 << 16)
    found = ArrayOutputs(cut, 2, memory, 64).finish(cut)
    arena = np.frombuffer(memory.view, dtype=np.uint8)
    for channel in found:
        [sums] = channel
        assert sums.tolist() == [0.0] * 1000
        assert np.shares_memory(sums, arena)
    assert not np.shares_memory(found[0][0], found[1][0])

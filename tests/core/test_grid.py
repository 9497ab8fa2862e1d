from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lossd.core.grid import BLOCK, Grid

SHAPES = st.one_of(
    st.lists(st.integers(0, 6), min_size=1, max_size=8),
    st.lists(st.sampled_from([1, 2, 7, 100, 9000]), min_size=1, max_size=3),
)


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    shape = draw(SHAPES.filter(lambda shape: math.prod(shape) < 2_000_000))
    axes = draw(st.sets(st.integers(0, len(shape) - 1)))
    return Grid(shape, sorted(axes))


@given(grids())
def test_blocks_cover_every_element_once_in_order(grid: Grid) -> None:
    blocks = [grid.block(i) for i in range(grid.blocks)]
    assert [block.start for block in blocks] == [0, *(block.stop for block in blocks[:-1])][: len(blocks)]
    assert (blocks[-1].stop if blocks else 0) == grid.size
    assert all(0 < block.stop - block.start <= BLOCK for block in blocks)


@given(grids(), st.data())
def test_block_sums_add_up_to_numpys(grid: Grid, data: st.DataObject) -> None:
    values = np.random.default_rng(0).integers(0, 1000, grid.size).astype(np.float64)  # sums are exact
    got = np.zeros(grid.outputs)
    touched = np.zeros(grid.outputs, dtype=int)
    for i in range(grid.blocks):
        block = grid.block(i)
        part = values[block.start : block.stop].reshape(block.shape).sum(axis=grid.reduced_axes).reshape(-1)
        assert part.size == block.outputs
        got[block.output : block.output + block.outputs] += part
        touched[block.output : block.output + block.outputs] += 1
    expected = values.reshape(grid.shape).sum(axis=grid.axes).reshape(-1)
    np.testing.assert_array_equal(got, expected)
    if grid.disjoint:
        assert (touched <= 1).all()
    first = data.draw(st.integers(0, grid.blocks))
    last = data.draw(st.integers(first, grid.blocks))
    assert grid.partials(first, last) == sum(grid.block(i).outputs for i in range(first, last))

"""How requests are cut into parts."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lossd.core.cut import MOST_PLANES, Cut


@st.composite
def cuts(draw: st.DrawFn) -> Cut:
    shape = draw(st.lists(st.integers(0, 7) | st.just(1), min_size=1, max_size=6))
    axes = draw(st.lists(st.integers(0, len(shape) - 1), unique=True))
    return Cut(shape, axes, draw(st.sampled_from([1, 2, 7, 64, 1 << 20])))


@given(cuts())
def test_parts_cover_every_element_once_in_order(cut: Cut) -> None:
    parts = [cut.part(i) for i in range(cut.parts)]
    assert [part.start for part in parts] == [0, *(part.stop for part in parts[:-1])][: len(parts)]
    assert (parts[-1].stop if parts else 0) == cut.size
    assert all(0 < part.stop - part.start <= cut.elements for part in parts)
    for elements in range(cut.size + 1):
        assert cut.parts_within(elements) == sum(part.stop <= elements for part in parts)


@given(cuts())
def test_part_sums_add_up_to_numpys(cut: Cut) -> None:
    values = np.random.default_rng(0).integers(0, 1000, cut.size).astype(np.float64)  # sums are exact
    got = np.zeros(cut.outputs)
    touched = np.zeros(cut.outputs, dtype=int)
    reduced = tuple(axis for axis, gone in enumerate(cut.reduced) if gone)
    for i in range(cut.parts):
        part = cut.part(i)
        sums = values[part.start : part.stop].reshape(part.shape).sum(axis=reduced).reshape(-1)
        assert len(sums) == part.outputs
        got[part.output : part.output + part.outputs] += sums
        touched[part.output : part.output + part.outputs] += 1
    expected = values.reshape(cut.shape).sum(axis=cut.axes).reshape(-1)
    assert got.tolist() == expected.tolist()
    if cut.complete and cut.size:
        assert 0 not in cut.axes
        assert (touched == 1).all()


@given(cuts())
def test_there_is_room_for_the_planes_of_every_part(cut: Cut) -> None:
    for i in range(cut.parts):
        part = cut.part(i)
        most = min(MOST_PLANES, (part.stop - part.start) // part.outputs + 1)
        if not cut.output_shape:
            assert cut.most_numbers(i) == 0
        else:
            assert cut.most_numbers(i) == part.outputs * (1 if cut.complete else most)

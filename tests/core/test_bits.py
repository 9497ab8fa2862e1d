"""The same request gives the same bits, however it is cut, wherever it runs and whatever is beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core.scoring import KERNEL, elements, sums, total, work
from lossd.core.catalog import LOSSES as CATALOG
from lossd.core.catalog import check_params, reduced_axes
from lossd.core.grid import BLOCK, DEVICE_BLOCK, Grid
from lossd.core.kernel import EagerKernel, Score
from lossd.core.work import Work, prepare

Array = npt.NDArray[Any]

LOSSES: list[tuple[str, dict[str, Any]]] = [
    ("bce", {}),
    ("bce", {"label_smoothing": 0.1}),
    *(
        ("focal", {"variant": variant, "gamma": gamma})
        for variant in ("sigmoid", "exp", "quality")
        for gamma in (0.0, 0.3, 0.5, 1.0, 1.5, 2.0, 2.7, 3.0, 7.9)
    ),
]
SOME: list[tuple[str, dict[str, Any]]] = [LOSSES[0], *LOSSES[4::4]]
INPUTS = ("logits", "probabilities")
SHAPES_AND_AXES: list[tuple[tuple[int, ...], object]] = [
    ((BLOCK,), None),
    ((3 * BLOCK + 17,), None),
    ((1500, 80), 0),
    ((1500, 80), 1),
    ((4, BLOCK), 1),
    ((3, BLOCK + 5), 0),
    ((2, 2 * BLOCK + 1), 1),
    ((BLOCK + 1, 2), 0),
    ((30, 5, 40, 19), [0, 2]),
    ((30, 5, 40, 19), [1, -1]),
]


def tensors(inputs: str, shape: tuple[int, ...], seed: int = 0) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 8, shape) if inputs == "logits" else rng.random(shape)
    y = rng.random(shape)
    return {inputs: values.astype(np.float32), "targets": np.where(y < 0.5, y > 0.25, y)}


def everything(shape: tuple[int, ...], axis: object, **params: Any) -> Work:  # noqa: ANN401 -- whatever a loss takes
    """A request with every tensor and every parameter at once."""
    rng = np.random.default_rng(9)
    given_ = tensors("logits", shape)
    given_["logits"].reshape(-1)[::5000] = np.inf
    given_["targets"].reshape(-1)[::5000] = 1.0
    given_ |= {
        "weight": rng.random(shape[-1:]),
        "mask": rng.random(shape) < 0.9,
        "pos_weight": rng.random(shape[-1]),
        "alpha": rng.random(shape[-1]),
    }
    if axis is not None:
        params["axis"] = axis
    params = {"normalizer": "weight", "label_smoothing": 0.0, "gamma": 2.7, **params}
    return work("focal", given_, **params)


def outcome(job: Work, cuts: list[int] | None = None) -> tuple[bytes, ...]:
    """All that a request comes to, as bits."""
    if not job.grid.output_shape:
        return (np.float64(total(job, cuts)).tobytes(),)
    channels = range(1 + (job.divisor is not None))
    return tuple(sums(job, cuts, channel).tobytes() for channel in channels)


@pytest.mark.parametrize(("shape", "axis"), SHAPES_AND_AXES)
@settings(max_examples=5)
@given(data=st.data())
def test_no_cut_changes_a_bit(shape: tuple[int, ...], axis: object, data: st.DataObject) -> None:
    job = everything(shape, axis, variant=data.draw(st.sampled_from(["sigmoid", "exp", "quality"])))
    cuts = data.draw(st.lists(st.integers(0, job.grid.blocks), max_size=6))
    expected = outcome(job)
    assert outcome(job, cuts) == expected
    assert outcome(job, list(range(job.grid.blocks))) == expected


@pytest.mark.parametrize(("loss", "params"), SOME)
def test_no_cut_changes_an_element(loss: str, params: dict[str, Any]) -> None:
    job = work(loss, tensors("logits", (5 * BLOCK + 77,)), reduction="none", **params)
    expected = sums(job).tobytes()
    for cuts in ([1], [2, 3], list(range(6))):
        assert sums(job, cuts).tobytes() == expected


@pytest.mark.parametrize(("shape", "axis"), SHAPES_AND_AXES)
def test_what_is_scored_in_a_pause_changes_no_bit(shape: tuple[int, ...], axis: object) -> None:
    jobs = [everything(shape, axis), everything((700, 90), 0, gamma=0.5), everything((5 * BLOCK,), None)]

    def begin(job: Work) -> tuple[Score, list[Array]]:
        room = job.grid.partials(0, job.grid.blocks) if job.grid.output_shape else 0
        memories = [np.zeros(room) for _ in range(1 + (job.divisor is not None))] if room else []
        return Score.of(job, memories), memories

    alone, together = [begin(job) for job in jobs], [begin(job) for job in jobs]
    for job, (score, _) in zip(jobs, alone, strict=True):
        assert list(KERNEL.steps(job, 0, job.grid.blocks, score)) == list(range(1, job.grid.blocks + 1))
    steps = [
        KERNEL.steps(job, 0, job.grid.blocks, score) for job, (score, _) in zip(jobs, together, strict=True)
    ]
    while any([next(these, None) for these in steps]):  # noqa: C419 -- a step of each
        pass
    for (expected, laid), (score, also_laid) in zip(alone, together, strict=True):
        assert score.weight_sum is not None
        assert expected.weight_sum is not None
        assert score.sum.terms == expected.sum.terms
        assert score.weight_sum.terms == expected.weight_sum.terms
        assert score.positives.terms == expected.positives.terms
        assert score.count == expected.count
        assert score.pieces == expected.pieces
        assert [memory.tobytes() for memory in also_laid] == [memory.tobytes() for memory in laid]


def test_the_figures_merge_to_the_same_bits() -> None:
    job = everything((5 * BLOCK + 3,), None)
    whole = KERNEL.score(job, 0, job.grid.blocks)
    parts = [KERNEL.score(job, i, i + 1) for i in reversed(range(job.grid.blocks))]
    merged = parts[0]
    for part in parts[1:]:
        assert merged.weight_sum is not None
        assert part.weight_sum is not None
        merged.sum.add_all(part.sum.terms)
        merged.weight_sum.add_all(part.weight_sum.terms)
        merged.positives.add_all(part.positives.terms)
        merged.count += part.count
    assert whole.weight_sum is not None
    assert merged.weight_sum is not None
    assert merged.sum.value == whole.sum.value
    assert merged.weight_sum.value == whole.weight_sum.value
    assert merged.positives.value == whole.positives.value
    assert merged.count == whole.count


@pytest.fixture
def with_threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize(("shape", "axis"), SHAPES_AND_AXES)
def test_threads_change_no_bit(
    with_threads: Callable[[int], None], shape: tuple[int, ...], axis: object
) -> None:
    jobs = [everything(shape, axis)]
    for loss, params in SOME:
        over: dict[str, Any] = {} if axis is None else {"axis": axis}
        jobs.append(work(loss, tensors("logits", shape), reduction="sum", **over, **params))
    with_threads(1)
    expected = [outcome(job) for job in jobs]
    with_threads(2)
    assert torch.get_num_threads() == 2
    assert [outcome(job) for job in jobs] == expected


@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize(("loss", "params"), LOSSES)
def test_an_element_is_the_same_alone_and_anywhere(loss: str, params: dict[str, Any], inputs: str) -> None:
    for count in (2, 7, 63, 64, 65, 129, 1000):
        given_ = tensors(inputs, (count,))
        together = elements(loss, **given_, **params)
        for i in {0, 1, count // 2, count - 1}:
            alone = {name: array[i : i + 1] for name, array in given_.items()}
            assert elements(loss, **alone, **params)[0].tobytes() == together[i].tobytes()


@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize(("loss", "params"), SOME)
def test_one_value_repeated_is_one_loss_repeated(loss: str, params: dict[str, Any], inputs: str) -> None:
    given_ = {name: np.repeat(array, BLOCK + 37) for name, array in tensors(inputs, (1,), seed=5).items()}
    assert len(set(elements(loss, **given_, **params).tolist())) == 1


@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize(("loss", "params"), LOSSES)
def test_what_stands_beside_an_element_changes_no_bit(loss: str, params: dict[str, Any], inputs: str) -> None:
    given_ = tensors(inputs, (333,))
    expected = np.delete(elements(loss, **given_, **params), 100)
    beside = [np.inf, -np.inf, 1e4, -700.0, 0.0] if inputs == "logits" else [0.0, 1.0, 5e-324, 0.5]
    for value in beside:
        given_[inputs][100] = value
        for y in (0.0, 1.0, 0.5):
            given_["targets"][100] = y
            got = np.delete(elements(loss, **given_, **params), 100)
            assert got.tobytes() == expected.tobytes()


@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize(("loss", "params"), LOSSES)
def test_a_nan_beside_an_element_changes_no_bit(loss: str, params: dict[str, Any], inputs: str) -> None:
    given_ = {**tensors(inputs, (333,)), "weight": np.ones(333)}
    expected = np.delete(elements(loss, **given_, **params), 100)
    for name in given_:
        spoilt = {key: array.copy() for key, array in given_.items()}
        spoilt[name][100] = np.nan
        got = elements(loss, **spoilt, **params, allow_nan=True)
        assert np.isnan(got[100])
        assert np.delete(got, 100).tobytes() == expected.tobytes()


def test_a_kernel_keeps_nothing_of_what_it_scored() -> None:
    job = everything((2 * BLOCK + 5,), None)
    expected = outcome(job)
    worn = EagerKernel()
    for _, params in SOME[1:]:
        other = everything((777, 3), [0], **params)
        worn.score(
            other,
            0,
            other.grid.blocks,
            tuple(np.empty(other.grid.partials(0, other.grid.blocks)) for _ in range(2)),
        )
    fresh = worn.score(job, 0, job.grid.blocks).sum.value
    assert np.float64(fresh).tobytes() == expected[0]


@pytest.mark.parametrize("reduction", [{"reduction": "none"}, {"axis": 0, "reduction": "sum"}])
def test_what_was_in_the_memory_changes_no_bit(reduction: dict[str, Any]) -> None:
    job = work("focal", tensors("logits", (BLOCK // 10, 33)), **reduction)
    size = job.grid.partials(0, job.grid.blocks)
    memories = [np.full(size, filler) for filler in (np.nan, 7.0)]
    pieces = [KERNEL.score(job, 0, job.grid.blocks, (memory,)).pieces for memory in memories]
    assert pieces[0] == pieces[1]
    used = sum(piece.planes * piece.length for piece in pieces[0][0])
    assert 0 < used <= size
    assert memories[0][:used].tobytes() == memories[1][:used].tobytes()


@pytest.mark.parametrize(("shape", "axis"), SHAPES_AND_AXES)
def test_a_devices_longer_blocks_come_to_the_same(shape: tuple[int, ...], axis: object) -> None:
    """The path that a CUDA device takes, on this machine: blocks of more elements, few or one of them."""
    arrays = tensors("logits", shape)
    over: dict[str, Any] = {} if axis is None else {"axis": axis}
    params = check_params(CATALOG["focal"], {"reduction": "sum", **over})
    grid = Grid(shape, reduced_axes(params, shape), DEVICE_BLOCK)
    job = prepare("focal", params, grid, arrays)
    memories = () if axis is None else (np.zeros(grid.partials(0, grid.blocks)),)
    score = EagerKernel(block=DEVICE_BLOCK).score(job, 0, grid.blocks, memories)
    short = work("focal", arrays, reduction="sum", **over)
    assert score.sum.value == pytest.approx(total(short) if axis is None else sums(short).sum(), rel=1e-13)
    for memory, pieces in zip(memories, score.pieces, strict=True):
        got = np.zeros(grid.outputs)
        offset = 0
        for piece in pieces:
            for _ in range(piece.planes):
                got[piece.output : piece.output + piece.length] += memory[offset : offset + piece.length]
                offset += piece.length
        np.testing.assert_allclose(got, sums(short), rtol=1e-13)

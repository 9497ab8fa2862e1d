"""The same request gives the same bits, however it is cut, in any order, by any kernel."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core.scoring import (
    BLOCK,
    KERNELS,
    NATIVE,
    Job,
    elements,
    everything_of,
    figures,
    figures_by,
    score_part,
    sums,
    work,
)
from lossd.core.exact_sum import ExactSum
from lossd.core.kernel import Kernel
from lossd.core.losses.kernel import TorchKernel
from lossd.core.native.kernel import NativeKernel

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
Axis = int | tuple[int, ...] | None
SHAPES_AND_AXES: list[tuple[tuple[int, ...], Axis]] = [
    ((BLOCK,), None),
    ((3 * BLOCK + 17,), None),
    ((1500, 80), 0),
    ((1500, 80), 1),
    ((4, BLOCK), 1),
    ((3, BLOCK + 5), 0),
    ((2, 2 * BLOCK + 1), 1),
    ((BLOCK + 1, 2), 0),
    ((30, 5, 40, 19), (0, 2)),
    ((30, 5, 40, 19), (1, -1)),
]


def tensors(inputs: str, shape: tuple[int, ...], seed: int = 0) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 8, shape) if inputs == "logits" else rng.random(shape)
    y = rng.random(shape)
    return {inputs: values.astype(np.float32), "targets": np.where(y < 0.5, y > 0.25, y)}


def everything(
    shape: tuple[int, ...],
    axis: Axis,
    elements: int = BLOCK,
    **params: Any,  # noqa: ANN401 -- whatever a loss takes
) -> Job:
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
        params["axis"] = list(axis) if isinstance(axis, tuple) else axis
    params = {"normalizer": "weight", "label_smoothing": 0.0, "gamma": 2.7, **params}
    return work("focal", given_, elements=elements, **params)


def outcome(job: Job, kernel: Kernel | None = None) -> tuple[bytes, ...]:
    """All that a request comes to, as bits: by every kernel, or by one."""
    found, channels = everything_of(job, kernel)
    assert found.weight_sum is not None
    terms = [found.sum.terms, found.weight_sum.terms, found.positives.terms, [float(found.count)]]
    return (*(np.array(each).tobytes() for each in terms), *(each.tobytes() for each in channels))


@cache
def whole(shape: tuple[int, ...], axis: Axis) -> tuple[bytes, ...]:
    """What a request with everything comes to in one part, by every kernel."""
    return outcome(everything(shape, axis, 1 << 30))


@pytest.mark.slow
@pytest.mark.parametrize(("shape", "axis"), SHAPES_AND_AXES)
def test_no_cut_changes_a_bit(shape: tuple[int, ...], axis: Axis) -> None:
    """Parts are scored last first, and by every kernel."""
    for elements_ in (BLOCK, 4999):
        assert outcome(everything(shape, axis, elements_)) == whole(shape, axis)


@settings(max_examples=30)
@given(data=st.data())
def test_rows_in_any_order_come_to_the_same_bits(data: st.DataObject) -> None:
    seed = data.draw(st.integers(0, 1000))
    rng = np.random.default_rng(seed)
    rows = data.draw(st.integers(1, 60))
    given_ = tensors("logits", (rows, 7), seed)
    weight = rng.random((rows, 1)) * 10.0 ** rng.integers(-300, 300, (rows, 1))
    whole = figures(work("focal", {**given_, "weight": weight}, reduction="sum"))
    order = rng.permutation(rows)
    borders = sorted({0, rows, *rng.integers(0, rows, 5).tolist()})
    merged = []
    for first, last in pairwise(borders):
        chosen = order[first:last]
        batch = {**{name: array[chosen] for name, array in given_.items()}, "weight": weight[chosen]}
        merged.append(figures(work("focal", batch, reduction="sum")))
    total_, weights = ExactSum(), ExactSum()
    for part in merged:
        assert part.weight_sum is not None
        total_.add_all(part.sum.terms)
        weights.add_all(part.weight_sum.terms)
    assert whole.weight_sum is not None
    assert total_.terms == whole.sum.terms
    assert weights.terms == whole.weight_sum.terms


@pytest.mark.parametrize(("loss", "params"), LOSSES)
def test_sums_are_the_elements_summed_exactly(loss: str, params: dict[str, Any]) -> None:
    given_ = tensors("logits", (3001,))
    each = elements(loss, **given_, **params)
    exact = sum(map(Fraction, each.tolist()))
    found = figures(work(loss, given_, reduction="sum", **params))
    assert found.sum.value == math.fsum(each)
    assert sum(map(Fraction, found.sum.terms)) == exact
    positives = sum(map(Fraction, given_["targets"].astype(np.float64).tolist()))
    assert sum(map(Fraction, found.positives.terms)) == positives


@pytest.mark.parametrize(("shape", "axis"), [case for case in SHAPES_AND_AXES if case[1] is not None])
def test_sums_of_outputs_are_the_elements_summed_exactly(shape: tuple[int, ...], axis: Any) -> None:  # noqa: ANN401
    given_ = tensors("logits", shape)
    each = elements("bce", **given_)
    job = work("bce", given_, reduction="sum", axis=list(axis) if isinstance(axis, tuple) else axis)
    kept = [i for i in range(len(shape)) if i not in job.work.cut.axes]
    rows = np.moveaxis(each, kept, range(len(kept))).reshape(job.work.cut.outputs, -1)
    assert sums(job).tolist() == [math.fsum(row) for row in rows]


@pytest.mark.slow
@pytest.mark.skipif(NATIVE is None, reason="the native kernel was not compiled")
@pytest.mark.parametrize("threads", [2, 3, 8])
@pytest.mark.parametrize(("shape", "axis"), SHAPES_AND_AXES)
def test_threads_change_no_bit(shape: tuple[int, ...], axis: Axis, threads: int) -> None:
    assert outcome(everything(shape, axis, 1 << 30), NativeKernel(threads)) == whole(shape, axis)


@pytest.mark.skipif(NATIVE is None, reason="the native kernel was not compiled")
def test_any_number_of_threads_may_call_at_once() -> None:
    jobs = [everything(shape, axis, 1 << 30) for shape, axis in SHAPES_AND_AXES]
    kernel = NativeKernel(3)
    expected = [figures(job).sum.terms for job in jobs]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda job: figures_by(kernel, job).sum.terms, jobs * 20))
    assert found == expected * 20


@pytest.mark.slow
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
    for _, params in SOME[1:]:
        outcome(everything((777, 3), (0,), **params))
    assert outcome(job) == expected


@pytest.mark.parametrize("reduction", [{"reduction": "none"}, {"axis": 0, "reduction": "sum"}])
def test_what_was_in_the_memory_changes_no_bit(reduction: dict[str, Any]) -> None:
    job = work("focal", tensors("logits", (BLOCK // 33, 33)), **reduction)
    for kernel in KERNELS:
        found, [memory] = score_part(kernel, job, 0)
        other = np.full(job.work.cut.most_numbers(0), 7.0)
        again = kernel.score(job.work, job.body, 0, 0, [other])
        used = found.planes[0] * job.work.cut.part(0).outputs
        assert again == found
        assert 0 < used <= len(memory)
        assert other[:used].tobytes() == memory[:used].tobytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        ((40_017,), None),
        ((500, 80), 0),
        ((500, 80), 1),
        ((4, 10_000), 1),
        ((3, 12_000), 0),
        ((20_000, 2), 0),
        ((10, 5, 40, 19), (0, 2)),
        ((10, 5, 40, 19), (1, -1)),
    ],
)
def test_a_devices_longer_blocks_come_to_the_same(shape: tuple[int, ...], axis: Axis) -> None:
    """The path that a CUDA device takes, here: one block longer than a CPU's, or many short ones."""
    job = everything(shape, axis, 1 << 30)
    assert job.work.cut.size > BLOCK
    expected = outcome(job)
    for length in (1 << 22, 4999):
        assert outcome(job, TorchKernel(block=length)) == expected


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("shape", "axis"), SHAPES_AND_AXES)
def test_cuda_comes_to_the_same(shape: tuple[int, ...], axis: Axis) -> None:
    kernel = TorchKernel("cuda:0")
    for variant in ("sigmoid", "exp", "quality"):
        for gamma in (0.0, 0.5, 1.5, 2.0, 2.7):
            job = everything(shape, axis, 1 << 24, variant=variant, gamma=gamma)
            assert outcome(job, kernel) == outcome(job)


@pytest.mark.parametrize("rows", [3, 400])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_sums_at_the_top_of_float64(rows: int, axis: int | None) -> None:
    """Rounded sums overflow on the way where the exact one does not."""
    rng = np.random.default_rng(4)
    greatest = np.finfo(np.float64).max
    for _ in range(40):
        weight = np.zeros((rows, 2))
        large = greatest / 64 * (1 + rng.choice([-1, 0, 1, 3]) * 2.0**-52)
        weight[0] = large - 2.0**970 * rng.integers(0, 3)
        weight[1:3] = np.ldexp(rng.random((2, 2)), rng.integers(955, 966))
        given_ = {"logits": np.full((rows, 2), 64.0), "targets": np.zeros((rows, 2)), "weight": weight}
        over: dict[str, Any] = {} if axis is None else {"axis": axis}
        job = work("bce", given_, reduction="sum", **over)
        each = elements("bce", **given_)
        if axis is None:
            assert figures(job).sum.terms == ExactSum(each.ravel().tolist()).terms
            continue
        lines = each.T if axis == 0 else each
        assert sums(job).tolist() == [ExactSum(line.tolist()).value for line in lines]

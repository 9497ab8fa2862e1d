"""The compiled kernel: within the same promise, its bits its own, the eager kernel's where it steps aside."""

from __future__ import annotations

import itertools
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import reference
from core.scoring import KERNEL as EAGER
from core.scoring import work
from lossd.core.compiled import CompiledKernel
from lossd.core.exact_sum import ExactSum
from lossd.core.grid import BLOCK
from lossd.core.kernel import Score
from lossd.core.known_answers import check_known_answers
from lossd.core.work import Work
from lossd.request import Fault

pytestmark = [
    pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++, which the compiled kernel needs"),
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning"),  # torch.compile's own
]
RNG = np.random.default_rng(8)


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> CompiledKernel:
    return CompiledKernel(cache=Path(tmp_path_factory.mktemp("cache")))


def figures(kernel: CompiledKernel, job: Work, step: int) -> tuple[float, float, int]:
    total, positives, count = ExactSum(), ExactSum(), 0
    for first in range(0, job.grid.blocks, step):
        score = kernel.score(job, first, min(first + step, job.grid.blocks))
        total.add_all(score.sum.terms)
        positives.add_all(score.positives.terms)
        count += score.count
    return total.value, positives.value, count


def test_it_knows_the_known_answers(kernel: CompiledKernel) -> None:
    check_known_answers(kernel)
    assert kernel.name.startswith("compiled-")


@pytest.mark.parametrize("variant", ["sigmoid", "exp", "quality"])
@pytest.mark.parametrize("gamma", [1.5, 2.0, 2.3])
def test_elements_keep_the_promise(kernel: CompiledKernel, variant: str, gamma: float) -> None:
    x = np.concatenate([RNG.normal(0, 30, 4000), np.linspace(-700, 700, 96)])
    y = np.where(RNG.random(x.size) < 0.5, RNG.random(x.size), RNG.integers(0, 2, x.size))
    job = work("focal", {"logits": x, "targets": y}, reduction="none", gamma=gamma, variant=variant)
    ours, eager = np.zeros(x.size), np.zeros(x.size)
    kernel.score(job, 0, 1, (ours,))
    EAGER.score(job, 0, 1, (eager,))
    np.testing.assert_allclose(ours, eager, rtol=1e-13, atol=1e-15)
    if variant == "sigmoid":
        for i in range(0, x.size, 41):
            true = reference.focal(float(x[i]), float(y[i]), gamma)
            assert reference.is_within(float(ours[i]), true, 8 + 4 * gamma), (x[i], y[i])


def test_the_bits_depend_on_nothing_but_the_request(kernel: CompiledKernel) -> None:
    n = 20 * BLOCK + 4800
    x = RNG.normal(0, 4, n).astype(np.float32)
    y = (RNG.integers(0, 257, n) / 256).astype(np.float32)
    found = set()
    try:
        for threads, dtype, targets in itertools.product((1, 2), ("<f4", ">f4", "<f8"), ("f4", "f8")):
            torch.set_num_threads(threads)
            job = work("bce", {"logits": x.astype(dtype), "targets": y.astype(targets)})
            found |= {figures(kernel, job, step) for step in (1, 3, 100)}
    finally:
        torch.set_num_threads(1)
    assert len(found) == 1
    ((total, positives, count),) = found
    assert count == n
    assert positives == math.fsum(y.astype(np.float64))
    eager = EAGER.score(job, 0, job.grid.blocks).sum.value
    assert total == pytest.approx(eager, rel=1e-14)


@pytest.mark.parametrize("loss", ["bce", "focal"])
@pytest.mark.parametrize("n", [1, 15, 511, 512, 513, 2560, 4097, BLOCK - 1])
def test_blocks_of_any_length(kernel: CompiledKernel, loss: str, n: int) -> None:
    x, y = RNG.normal(0, 4, BLOCK).astype(np.float32), RNG.integers(0, 2, BLOCK).astype(bool)
    whole = np.zeros(BLOCK)
    kernel.score(work(loss, {"logits": x, "targets": y}, reduction="none"), 0, 1, (whole,))
    alone = np.zeros(n)
    part = {"logits": x[:n], "targets": y[:n]}
    score = kernel.score(work(loss, part, reduction="none"), 0, 1, (alone,))
    assert alone.tobytes() == whole[:n].tobytes()
    assert score.count == n
    assert score.positives.value == np.count_nonzero(y[:n])
    assert score.sum.value == pytest.approx(math.fsum(alone), rel=1e-14)
    assert kernel.score(work(loss, part), 0, 1).sum.value == score.sum.value


@pytest.mark.parametrize("n", [700, 4800])
def test_the_bits_do_not_depend_on_the_dtype(kernel: CompiledKernel, n: int) -> None:
    x = RNG.normal(0, 4, n).astype(np.float16)
    y = RNG.integers(0, 2, n)
    found = set()
    for logits in ("<f2", "<f4", "<f8", ">f8"):
        for targets in ("f4", "f8") if logits != "<f4" else ("b1", "u1", "i1", "i2", "i4", "i8", "f2", ">f4"):
            job = work("focal", {"logits": x.astype(logits), "targets": y.astype(targets)})
            found.add(figures(kernel, job, 1))
    halves = (x.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)  # not the same values
    tensors: dict[str, Any] = {"logits": halves, "targets": y}
    half = figures(kernel, work("focal", tensors, frozenset({"logits"})), 1)
    tensors["logits"] = (halves.astype(np.uint32) << 16).view(np.float32)
    assert figures(kernel, work("focal", tensors), 1) == half
    assert len(found) == 1


def test_weights_and_classes(kernel: CompiledKernel) -> None:
    x, y = RNG.normal(0, 4, (4096, 16)), RNG.integers(0, 2, (4096, 16)).astype(bool)
    tensors = {
        "logits": x,
        "targets": y,
        "weight": RNG.random((4096, 1)),
        "pos_weight": RNG.random(16),
        "alpha": RNG.random(16),
    }
    for axis in (None, 0, 1):
        job = work("focal", tensors, reduction="sum", axis=axis, alpha=None)
        found = []
        for one in (kernel, EAGER):
            memories = () if axis is None else (np.zeros(job.grid.partials(0, job.grid.blocks)),)
            score = one.score(job, 0, job.grid.blocks, memories)
            assert score.weight_sum is not None
            outputs = [
                memory[: piece.planes * piece.length].reshape(piece.planes, piece.length).sum(0)
                for memory, (piece,) in zip(memories, score.pieces, strict=True)
            ]
            found.append(np.concatenate([*outputs, [score.sum.value, score.weight_sum.value]]))
        np.testing.assert_allclose(found[0], found[1], rtol=1e-13)


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("logits", math.nan, "non_finite_input"),
        ("targets", 1.5, "target_out_of_range"),
        ("targets", math.nan, "non_finite_input"),
        ("weight", -1.0, "weight_out_of_range"),
        ("pos_weight", -1.0, "weight_out_of_range"),
    ],
)
def test_faults_are_the_eager_kernels(kernel: CompiledKernel, name: str, value: float, code: str) -> None:
    n = 3 * BLOCK
    tensors = {name: RNG.random(n) for name in ("logits", "targets", "weight", "pos_weight")}
    tensors[name][BLOCK + 7] = value
    with pytest.raises(Fault) as caught:
        kernel.score(work("bce", tensors), 0, 3)
    assert (caught.value.code, caught.value.errors[0][0]) == (code, f"/{name}/{BLOCK + 7}")


def test_a_short_block_is_padded_with_what_is_allowed(kernel: CompiledKernel) -> None:
    tensors = {name: RNG.random(77) for name in ("probabilities", "targets", "weight", "pos_weight")}
    for loss in ("bce", "focal"):
        job = work(loss, tensors)
        ours, eager = kernel.score(job, 0, 1), EAGER.score(job, 0, 1)
        assert ours.sum.value == pytest.approx(eager.sum.value, rel=1e-14)
        assert ours.weight_sum is not None
        assert ours.weight_sum.value == pytest.approx(tensors["weight"].sum(), rel=1e-14)
    tensors["probabilities"][76] = 1.5
    with pytest.raises(Fault) as caught:
        kernel.score(work("bce", tensors), 0, 1)
    assert caught.value.errors[0][0] == "/probabilities/76"


def test_an_infinite_logit_leaves_other_blocks_alone(kernel: CompiledKernel) -> None:
    n = 4 * BLOCK
    tensors = {"logits": RNG.normal(size=n), "targets": RNG.random(n)}
    expected = [kernel.score(work("bce", tensors), i, i + 1).sum.value for i in range(4)]
    tensors["logits"][2 * BLOCK] = math.inf
    found = [kernel.score(work("bce", tensors), i, i + 1).sum.value for i in range(4)]
    assert found[2] == math.inf
    assert [found[i] for i in (0, 1, 3)] == [expected[i] for i in (0, 1, 3)]


def test_what_is_scored_in_a_pause_changes_no_bit(kernel: CompiledKernel) -> None:
    jobs = []
    for n in (20 * BLOCK + 77, 5 * BLOCK):
        tensors = {"logits": RNG.normal(size=n), "targets": RNG.random(n)}
        tensors["logits"][2 * BLOCK], tensors["targets"][2 * BLOCK] = math.inf, 1.0  # an eager block
        jobs.append(work("bce", tensors))
    expected = [kernel.score(job, 0, job.grid.blocks) for job in jobs]
    found = [Score.of(job) for job in jobs]
    steps = [kernel.steps(job, 0, job.grid.blocks, score) for job, score in zip(jobs, found, strict=True)]
    paused = list(itertools.zip_longest(*steps))
    assert [one for one, _ in paused] == list(range(1, 22))
    assert [other for _, other in paused][:6] == [1, 2, 3, 4, 5, None]
    for score, whole in zip(found, expected, strict=True):
        assert score.sum.terms == whole.sum.terms
        assert score.positives.terms == whole.positives.terms
        assert score.count == whole.count


@pytest.mark.parametrize("logit", [0.0, 0.3, 1.7])
def test_sums_merge(kernel: CompiledKernel, logit: float) -> None:
    """Equal terms, whose roundings all go one way, in one request and in sixteen."""
    whole: dict[str, Any] = {"logits": np.full(BLOCK, logit, dtype=np.float32), "targets": np.zeros(BLOCK)}
    part = {name: array[: BLOCK // 16] for name, array in whole.items()}
    one = kernel.score(work("bce", whole), 0, 1).sum.value
    parts = [kernel.score(work("bce", part), 0, 1).sum.value] * 16
    assert one == pytest.approx(math.fsum(parts), rel=1e-14)
    assert one == pytest.approx(float(BLOCK * reference.bce(float(np.float32(logit)), 0.0)), rel=1e-14)


def test_a_sweep_of_parameters_is_not_compiled_for(kernel: CompiledKernel) -> None:
    tensors = {"logits": RNG.normal(size=BLOCK), "targets": RNG.random(BLOCK)}
    kernel.score(work("focal", tensors), 0, 1)
    before = len(kernel._passes)
    for step in range(20):
        sweep: list[dict[str, Any]] = [{"alpha": step / 20}, {"gamma": 1.501 + step / 20}]
        for params in sweep:
            kernel.score(work("focal", tensors, **params), 0, 1)
    assert len(kernel._passes) == before

"""Partial reports of both kernels, against every figure computed anew, element by element.

What is computed of an element (its probability, its summands of a sweep) is taken from core/losses here, and
compared with mpmath in test_summands. So the sums must be equal to the last bit.
"""

from __future__ import annotations

import platform

import numpy as np
import pytest
import torch

from core.report.cases import LONG, REPORTING, Case, drawn, layout_of, long_case, score
from core.report.reference import Reference, Summands, figures_of
from core.scoring import Array
from lossd.core.kernel import Kernel
from lossd.core.losses.elements import Formula, elements
from lossd.core.losses.kernel import TorchKernel
from lossd.core.losses.likelihood import probability
from lossd.core.losses.sweep import summands
from lossd.core.native.kernel import NativeKernel
from lossd.core.native.library import WIDTHS, best_width, why_missing
from lossd.core.report.layout import Layout
from scripts import build_native

FLAGS = build_native.WIDTHS.get(platform.machine(), {})
HERE = [] if why_missing() else [width for width in WIDTHS[WIDTHS.index(best_width()) :] if width in FLAGS]
"""The widths that this CPU has."""


def tensor(values: Array) -> torch.Tensor:
    return torch.from_numpy(np.array(values, np.float64).reshape(-1))


def summands_of(case: Case, layout: Layout) -> Summands:
    shape = case.inputs.shape
    x, y = tensor(case.inputs), tensor(case.targets)
    k = case.tensors.get("pos_weight")
    axis = int(str(case.params["class_axis"]))
    if k is not None:
        along = k.reshape([-1 if each == axis else 1 for each in range(len(shape))])
        k = np.broadcast_to(along, shape)
    how = Formula(
        case.loss,
        case.probabilities,
        float(str(case.params.get("label_smoothing", 0.0))),
        variant=str(case.params.get("variant", "sigmoid")),
    )
    weight = None if case.weight is None else tensor(case.weight)
    each = summands(how, layout.spec.gammas, x, y, None if k is None else tensor(k), weight)
    sweep = [[values.numpy().reshape(shape) for values in listed] for listed in each]
    p = x if case.probabilities else probability(x)
    plain = elements(Formula("bce", case.probabilities), x, y)
    baseline = case.tensors.get("baseline")
    return Summands(
        losses=case.losses(),
        baseline=None if baseline is None else case.losses(baseline),
        probability=p.numpy().reshape(shape),
        cross_entropy=plain.numpy().reshape(shape),
        sweep=sweep,
    )


@pytest.mark.parametrize("seed", [*range(96), 1317])  # a loss of the last one is -0 before it is listed
@pytest.mark.parametrize("kernel", REPORTING, ids=lambda kernel: kernel.name)
def test_every_figure_is_what_it_is_defined_to_be(kernel: Kernel, seed: int) -> None:
    assert_defined(kernel, drawn(seed))


@pytest.mark.parametrize("name", LONG)
@pytest.mark.parametrize("width", HERE)
def test_sums_of_many_numbers_are_exact_too(width: str, name: str) -> None:
    assert_defined(NativeKernel(width=width), long_case(name))


def assert_defined(kernel: Kernel, case: Case) -> None:
    """Hold a kernel's figures against those computed anew."""
    job = case.job()
    layout = layout_of(job)
    expected = Reference(case, layout, summands_of(case, layout)).figures()
    partials = [score(kernel, job, index)[1] for index in range(job.work.cut.parts)]
    found = figures_of(case, layout, partials)
    assert found.counts == expected.counts
    assert {key: total for key, total in found.sums.items() if total != expected.sums.get(key)} == {}
    assert expected.sums.keys() == found.sums.keys()
    assert found.lists.keys() == expected.lists.keys()
    for name, entries in expected.lists.items():
        assert repr(found.lists[name]) == repr(entries), name  # NaN is equal to itself there


@pytest.mark.parametrize("seed", range(0, 96, 7))
@pytest.mark.parametrize("block", [1, 64])
def test_blocks_of_rows_come_to_the_same(block: int, seed: int) -> None:
    case = drawn(seed)
    case.elements = 1 << 15
    job = case.job()
    layout = layout_of(job)
    (whole, expected), (cut, found) = (
        score(kernel, job, 0) for kernel in (TorchKernel(), TorchKernel(block=block))
    )
    assert repr(cut) == repr(whole) or cut.report == whole.report  # NaN is equal to itself there
    together, apart = figures_of(case, layout, [expected]), figures_of(case, layout, [found])
    assert repr(apart.lists) == repr(together.lists)
    assert (apart.sums, apart.counts) == (together.sums, together.counts)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("seed", range(24))
def test_cuda_comes_to_the_same(seed: int) -> None:
    case = drawn(seed)
    job = case.job()
    layout = layout_of(job)
    for index in range(job.work.cut.parts):
        one, other = (
            figures_of(case, layout, [score(kernel, job, index)[1]])
            for kernel in (TorchKernel(), TorchKernel("cuda:0"))
        )
        assert repr(one.lists) == repr(other.lists)
        assert (one.sums, one.counts) == (other.sums, other.counts)

"""Whole documents of drawn requests, by both kernels, against those of tests/report_reference.py."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import orjson
import pytest

from core.report.cases import REPORTING, Case, ReportJob, drawn, layout_of, score
from core.report.test_definition import summands_of
from core.scoring import Array
from lossd.core.catalog import LOSSES
from lossd.core.document.accumulator import Labels, ReportSums
from lossd.core.document.document import document_of
from lossd.core.exact_sum import ExactSum
from lossd.core.kernel import Kernel
from lossd.core.parameters import check_params, options_of, own_params
from lossd.types import LossRequest, LossResult
from lossd.wire.json.writing import write_value
from report_reference import OPTIONS, OWN, Request, assert_same, document

MOST_ELEMENTS = 250
"""Of the drawn requests: the reference's sums of a sweep are computed by mpmath."""
SMALL = [seed for seed in range(150) if drawn(seed).inputs.size <= MOST_ELEMENTS]


def request_of(case: Case, job: ReportJob) -> LossRequest:
    checked = check_params(LOSSES[case.loss], case.params) | case.report
    own, options = own_params(LOSSES[case.loss], checked), options_of(LOSSES[case.loss], checked)
    if "alpha" in case.tensors:
        own["alpha"] = case.tensors["alpha"].tolist()
    if "pos_weight" in case.tensors:
        weights = case.tensors["pos_weight"]
        options["pos_weight"] = {"dtype": weights.dtype.name, "shape": list(weights.shape)}
    return LossRequest(case.loss, job.tensors, checked, own, options)


def scored(kernel: Kernel, case: Case, job: ReportJob, request: LossRequest) -> dict[str, Any]:
    """The document of a request, from its parts in reverse order."""
    layout, cut = layout_of(job), job.work.cut
    ids = Labels(unsigned=case.tensors["ids"].dtype == np.uint64) if case.ids else None
    groups = [Labels(unsigned=column.tensor.dtype == "uint64") for column in job.work.groups]
    report = ReportSums(layout, 1 << 18, groups, ids)
    totals, count = [ExactSum(), ExactSum(), ExactSum()], 0
    for index in reversed(range(cut.parts)):
        found, partial = score(kernel, job, index)
        report.add(partial, 0)
        count += found.count
        terms = (found.loss, found.weights or [float(found.count)], found.positives)
        for total, its in zip(totals, terms, strict=True):
            total.add_all(its)
    result = LossResult(
        loss=0.0,
        reduction="sum",
        count=count,
        sum_terms=tuple(totals[0].terms),
        weight_sum_terms=tuple(totals[1].terms),
        positives_terms=tuple(totals[2].terms),
        shape=cut.shape,
        loss_name=case.loss,
        params=request.own,
        kernel=kernel.name,
        device=kernel.device,
        options=request.options,
    )
    return orjson.loads(write_value(document_of(report, result, request)))  # type: ignore[no-any-return]


def reference_of(case: Case, job: ReportJob, request: LossRequest) -> tuple[Request, dict[str, Any]]:
    layout = layout_of(job)
    names = layout.spec.group_names or (
        ["group"] if len(job.work.groups) == 1 else [f"group{i}" for i in range(len(job.work.groups))]
    )
    columns = None if case.groups is None else np.array(case.groups, object).T
    same = Request(
        inputs=sent(case, "probabilities" if case.probabilities else "logits"),
        targets=case.tensors["targets"],
        loss=case.loss,
        kind="probabilities" if case.probabilities else "logits",
        weight=case.tensors.get("weight"),
        mask=case.tensors.get("mask"),
        pos_weight=case.tensors.get("pos_weight"),
        groups=None if columns is None else dict(zip(names, columns, strict=True)),
        ids=None if case.ids is None else np.array(case.ids, object),
        baseline=sent(case, "baseline") if "baseline" in case.tensors else None,
        params={name: {**request.own, **request.options}[name] for name in (*OWN[case.loss], *OPTIONS)},
        sections=tuple(layout.spec.sections - {"totals"}),
        top=layout.spec.top,
        row="mean" if layout.spec.row_mean else "sum",
        first_row=layout.spec.first_row,
        bins=layout.spec.bins or "exact",
        gammas=layout.spec.gammas,
    )
    if same.pos_weight is not None:  # the reference wants the parameter to be left out then
        same.params["pos_weight"] = None
    of = summands_of(case, layout)
    expected = document(same, of.losses, of.cross_entropy, of.baseline)
    expected["totals"]["params"]["pos_weight"] = request.options["pos_weight"]  # the front end shows a tensor
    return same, expected


def sent(case: Case, name: str) -> Array:
    tensor = case.tensors[name]
    return tensor.view(ml_dtypes.bfloat16) if name in case.bfloat16 else tensor


@pytest.mark.parametrize("seed", SMALL)
@pytest.mark.parametrize("kernel", REPORTING, ids=lambda kernel: kernel.name)
def test_the_document_is_the_references(kernel: Kernel, seed: int) -> None:
    case = drawn(seed)
    job = case.job()
    request = request_of(case, job)
    same, expected = reference_of(case, job, request)
    assert_same(same, scored(kernel, case, job, request), expected)

"""What the native kernel is told of a report."""

from __future__ import annotations

import math
import sys
from typing import Final

from lossd.core.native import library
from lossd.core.operand import Operand
from lossd.core.prepare import Work
from lossd.core.report.layout import EXACT_BINS, Layout
from lossd.types import ITEMSIZE

SHARES: Final = {None: 0, "count": 1, "weight": 2, "positives": 3}
"""The numbers of kernel.h's divisors."""


def report_of(work: Work) -> library.Report | None:
    """Return a request's report as the native kernel takes it; None if there is none."""
    layout = work.report
    if layout is None:
        return None
    spec, inputs = layout.spec, layout.inputs
    cells = layout.calibration_classes * (spec.bins or EXACT_BINS)
    report = library.Report(
        row_size=math.prod(inputs.shape[1:]),
        classes=layout.classes,
        class_inner=_inner(layout, layout.classes),
        by_target=inputs.by_target,
        calibration_classes=layout.calibration_classes,
        calibration_inner=_inner(layout, layout.calibration_classes if spec.bins else 0),
        calibration_cells=cells,
        sums=layout.sums.width,
        single_sums=layout.single_sums,
        counts=layout.counts.width,
        group_sums=layout.group_sums.width,
        group_counts=layout.group_counts.width,
        at=library.Indices(*map(layout.sums.start, library.SUMS), *map(layout.counts.start, library.COUNTS)),
        group_at=library.GroupIndices(
            *map(layout.group_sums.start, library.GROUP_SUMS),
            *map(layout.group_counts.start, library.GROUP_COUNTS),
        ),
        gamma=spec.gammas,
        gammas=len(spec.gammas),
        groups=tuple(map(_column, work.groups)) if layout.by_group else (),
        columns=len(work.groups) if layout.by_group else 0,
        bins=spec.bins,
        exact=not spec.bins,
        top=spec.top,
        paired="paired" in spec.sections,
        weighted=inputs.weighted,
        row_mean=spec.row_mean,
        share=SHARES[work.share],
    )
    if work.ids is not None:
        report.ids, report.has_ids = _column(work.ids), 1
        report.ids_unsigned = work.ids.tensor.dtype == "uint64"
    return report


def _inner(layout: Layout, classes: int) -> int:
    """Return how many elements lie side by side in one class; 1 if classes are not told apart."""
    axis = layout.inputs.class_axis
    return math.prod(layout.inputs.shape[axis + 1 :]) if classes and axis else 1


def _column(operand: Operand) -> library.Column:
    dtype = operand.tensor.dtype
    return library.Column(
        offset=operand.tensor.offset,
        stride=operand.strides[0],
        size=ITEMSIZE[dtype],
        is_signed=dtype.startswith("int"),
        swapped=operand.tensor.big_endian != (sys.byteorder == "big"),
    )

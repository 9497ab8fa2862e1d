"""Reports: how much memory one takes, where workers write partial ones, and how these are added up."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from lossd.core.cut import Cut
from lossd.core.document.accumulator import GROUP_BYTES, Labels, NamesOf, ReportSums
from lossd.core.prepare import group_dtypes
from lossd.core.report.layout import Layout
from lossd.core.report.partial import Partial
from lossd.engine.admission.arena import aligned
from lossd.engine.dispatch.array_outputs import cut_for, output_bytes
from lossd.engine.ipc.memory import Memory
from lossd.types import GROUP_PREFIX, ErrorCode, LossRequest, RequestError, Tensor

logger = logging.getLogger(__name__)

LARGE_BYTES: Final = 1 << 19
"""A longer partial report is added in a thread: that takes a millisecond or more."""
_SMALL_BYTES: Final = 1 << 14
"""Shorter ones without groups are kept, and added together: each would cost as much as many."""
_TOGETHER_BYTES: Final = 1 << 17
"""They are added when they have so many bytes, within a millisecond."""
_SHORT_FIGURES: Final = 1 << 10
"""A document of fewer figures is made in less than half a millisecond."""
_LEAST_SHARE, _MOST_SHARE = 2, 4
"""Slices of a report are so many times as long as others. An element takes up to 30 ns instead of 8, so a
slice takes 5 to 15 ms, and adding its partial report half a millisecond."""
_ELEMENTS_PER_FIGURE: Final = 8
"""A slice has so many elements for each of a report's figures, if it may, so that workers do most of the
adding."""
_THREAD_ELEMENTS: Final = 1 << 17
_MOST_ELEMENTS: Final = 1 << 24
"""A row is scored by one thread. So a slice has a long row for each thread, which has so many elements of
other slices by default, unless these rows have too many together."""
_SLICE_BYTES: Final = 32 << 20
"""A slice is shortened until its partial report takes at most so much, unless it is a row."""
_PLACES: Final = 8
"""Most slices of a request out at a time."""
_PLACES_BYTES: Final = 96 << 20
"""What their partial reports may take together; two have room in any case."""
_PLANES: Final = 4
"""Float64 numbers that a sum takes, in most reports."""
_GROUPS: Final = 1 << 14
"""Memory for so many groups is reserved at first."""


@dataclass(frozen=True, slots=True)
class ReportPlan:
    """What is planned for a request's report.

    Attributes:
        layout: Its figures.
        most_cells: The most groups, times classes where groups have figures by class.
        groups: What each column of group ids stands for.
        ids: What the ids of rows stand for; None if there are none.
        place_bytes: Memory for the partial report of a slice.
        places: The most slices that are out at a time.
        held_bytes: Memory for what is added up, unless there are many groups or terms.
        most_bytes: The most that what is added up may take.
    """

    layout: Layout
    most_cells: int
    groups: Sequence[Labels]
    ids: Labels | None
    place_bytes: int
    places: int
    held_bytes: int
    most_bytes: int

    @property
    def nbytes(self) -> int:
        """Memory to reserve for it."""
        return self.places * self.place_bytes + self.held_bytes


def report_cut(
    layout: Layout, shape: tuple[int, ...], axes: tuple[int, ...], elements: int, size: int = 1
) -> Cut:
    """Return how a request with a report is cut into slices.

    Args:
        layout: The report's figures.
        shape: The losses' shape.
        axes: The axes reduced.
        elements: Most numbers of the inputs in a slice of a request without a report.
        size: The numbers of the inputs that have one loss.
    """
    elements = max(1, 4 * elements // (4 + len(layout.spec.gammas)))  # each costs about a quarter of all else
    wanted = _ELEMENTS_PER_FIGURE * (layout.sums.width + layout.counts.width)
    a_row_each = elements // _THREAD_ELEMENTS * math.prod(shape[1:]) * size
    elements = max(_LEAST_SHARE * elements, min(_MOST_SHARE * elements, wanted))
    elements = max(elements, min(a_row_each, _MOST_ELEMENTS))
    cut = cut_for(shape, axes, max(1, elements // max(1, size)), whole_rows=True)
    while _slice_bytes(layout, cut) > _SLICE_BYTES and cut.elements > cut.row_size:
        cut = cut_for(shape, axes, cut.elements // 2, whole_rows=True)
    return cut


def plan_report(
    request: LossRequest,
    layout: Layout,
    cut: Cut,
    most_cells: int,
    most_bytes: int,
    strings: Mapping[str, Sequence[str]] | None = None,
) -> ReportPlan:
    """Plan a request's report.

    Args:
        request: The request.
        layout: The report's figures.
        cut: How the request is cut; for a stream, the cut for the most rows that it may have.
        most_cells: The most cells of a section.
        most_bytes: The most bytes of an answer.
        strings: For each tensor of string codes the strings by code, as a list that may grow; for ids an
            empty one.

    Raises:
        RequestError: ``output_too_large``.
    """
    strings, ids = strings or {}, request.tensors.get("ids")
    place_bytes = aligned(_slice_bytes(layout, cut))
    rows = cut.size // max(1, cut.row_size)
    groups = min(rows, _GROUPS, most_cells // max(1, layout.classes)) if layout.by_group else 0
    held = _PLANES * layout.sums.width + layout.counts.width
    held += groups * (_PLANES * layout.group_sums.width + layout.group_counts.width)
    plan = ReportPlan(
        layout=layout,
        most_cells=most_cells,
        groups=_group_labels(request.tensors, strings),
        ids=None if ids is None else Labels(unsigned=ids.dtype == "uint64", is_string="ids" in strings),
        place_bytes=place_bytes,
        places=max(1, min(_PLACES, max(2, _PLACES_BYTES // max(1, place_bytes)), cut.parts)),
        held_bytes=8 * held + GROUP_BYTES * groups,
        most_bytes=most_bytes,
    )
    if plan.nbytes > most_bytes:
        raise _too_large(layout, plan.nbytes, most_bytes)
    return plan


_REMEDIES: Final = {
    "groups": "send coarser group ids, or leave `groups` or `classes` out of the report",
    "classes": "leave `classes` out of the report",
    "calibration": "ask for fewer calibration_bins, or leave `calibration` out of the report",
    "histogram": "leave `histogram` out of the report",
    "top": "ask for a smaller top",
    "sweep": "ask for fewer values at a time, or leave `classes` out of the report",
}
"""How a section is made smaller."""


@dataclass(slots=True)
class _Written:
    """A partial report that a worker has written.

    Attributes:
        place: Where it is.
        nbytes: Its length.
        first_row: The number of the row that its rows are counted from.
        names_of: Returns the ids of rows, counted like its own, where ids are strings.
    """

    place: tuple[int, int]
    nbytes: int
    first_row: int
    names_of: NamesOf | None


class ReportOutputs:
    """The report of a request whose slices are out: memory for partial ones, and what they add up to.

    Args:
        plan: The plan.
        memory: The arena.
        offset: Offset in it of `ReportPlan.nbytes` of reserved memory.
        reserve: Reserves further memory; returns whether there was any.
        when_added: Called for each partial report that has been added, or with the error why it was not.
    """

    def __init__(
        self,
        plan: ReportPlan,
        memory: Memory,
        offset: int,
        reserve: Callable[[int], bool],
        when_added: Callable[[RequestError | None], None],
    ) -> None:
        self.sums: Final = ReportSums(plan.layout, plan.most_cells, plan.groups, plan.ids)
        self._plan = plan
        self._memory = memory
        self._reserve = reserve
        self._reserved = plan.held_bytes
        self._when_added = when_added
        self._free = deque(offset + plan.place_bytes * i for i in range(plan.places))
        self._waiting: deque[_Written] = deque()
        self._running = False
        self._small: list[tuple[bytes, int]] = []  # partial reports, and their first rows
        self._small_bytes = 0

    @property
    def busy(self) -> bool:
        """Whether a thread reads what a worker has written."""
        return self._running

    @property
    def is_short(self) -> bool:
        """Whether a thread for making the document would cost more than the document."""
        layout = self._plan.layout
        figures = layout.sums.width + layout.counts.width + 8 * layout.spec.top
        return figures < _SHORT_FIGURES and not layout.by_group

    def place(self) -> tuple[int, int] | None:
        """Return where a slice's partial report goes, as (offset, bytes); None if no memory is free now."""
        return (self._free.popleft(), self._plan.place_bytes) if self._free else None

    def give_back(self, place: tuple[int, int]) -> None:
        """Let another slice use a place."""
        self._free.append(place[0])

    def add(self, place: tuple[int, int], nbytes: int, first_row: int, names_of: NamesOf | None) -> None:
        """Add a partial report: at once, or in a thread if it is large or another one is being added.

        Args:
            place: Where it is; given back when it has been added.
            nbytes: Its length.
            first_row: The number of the row that its rows are counted from.
            names_of: Returns the ids of rows, counted like its own, where ids are strings.
        """
        if nbytes < _SMALL_BYTES and names_of is None and not self._plan.layout.by_group:
            self._small.append((bytes(self._memory.view[place[0] : place[0] + nbytes]), first_row))
            self._small_bytes += nbytes
            enough = self._small_bytes >= _TOGETHER_BYTES and not self._running
            self._take_outcome(place, self._attempt(self._add_small) if enough else None)
            return
        self._waiting.append(_Written(place, nbytes, first_row, names_of))
        if not self._running:
            self._add_next()

    def finish(self) -> ReportSums:
        """Return the figures, once all partial reports have been passed to `add`."""
        self._add_small()
        return self.sums

    def stop(self) -> None:
        """Add no more."""
        self._waiting.clear()
        self._small.clear()

    def _add_next(self) -> None:
        while self._waiting:
            written = self._waiting.popleft()
            if written.nbytes > LARGE_BYTES:
                self._running = True
                add = partial(self._add, written)
                task = asyncio.get_running_loop().run_in_executor(None, self._attempt, add)
                task.add_done_callback(partial(self._added, written))
                return
            self._take_outcome(written.place, self._attempt(partial(self._add, written)))

    def _added(self, written: _Written, task: asyncio.Future[RequestError | None]) -> None:
        self._running = False
        self._take_outcome(written.place, task.result())
        self._add_next()

    def _add(self, written: _Written) -> None:
        start = written.place[0]
        report = Partial.read(self._memory.view[start : start + written.nbytes])
        self.sums.add(report, written.first_row, written.names_of)

    def _add_small(self) -> None:
        if self._small:
            self.sums.add(Partial.join(self._small), 0)
            self._small.clear()
            self._small_bytes = 0

    def _attempt(self, add: Callable[[], None]) -> RequestError | None:
        """Add partial reports; return the error if they cannot be added."""
        try:
            add()
        except RequestError as error:
            return error
        except Exception:
            logger.exception("a partial report could not be added")
            detail = "the report could not be computed; report the request id to the operator"
            return RequestError(ErrorCode.INTERNAL_ERROR, detail)
        return None

    def _take_outcome(self, place: tuple[int, int], error: RequestError | None) -> None:
        self.give_back(place)
        self._when_added(error or self._memory_error())

    def _memory_error(self) -> RequestError | None:
        """Reserve further memory if more is used than reserved; return the error if there is none."""
        held = self.sums.nbytes
        if held <= self._reserved:
            return None
        if held > self._plan.most_bytes:
            return _too_large(self._plan.layout, held, self._plan.most_bytes)
        if self._reserve(2 * held - self._reserved):
            self._reserved = 2 * held
            return None
        detail = (
            f"the report takes {held} bytes so far, and no more memory is free now; try again later, or ask "
            f"for less: {_remedy(self._plan.layout)}"
        )
        return RequestError(ErrorCode.OVERLOADED, detail)


def reserved_bytes(request: LossRequest, cut: Cut, report: ReportPlan | None) -> int:
    """Return the bytes of memory that a request's answer takes while it is computed, its report last.

    Args:
        request: The request.
        cut: How it is cut; for a stream, the cut for the most rows that it may have.
        report: What is planned for its report; None if there is none.
    """
    array = aligned(output_bytes(request, cut)) if cut.output_shape else 0
    return array + (0 if report is None else report.nbytes)


def _slice_bytes(layout: Layout, cut: Cut) -> int:
    if not cut.parts:
        return 0
    part = cut.part(0)
    return layout.most_bytes((part.stop - part.start) // max(1, cut.row_size), part.stop - part.start)


def _group_labels(tensors: Mapping[str, Tensor], strings: Mapping[str, Sequence[str]]) -> list[Labels]:
    columns = [name for name in tensors if name.startswith(GROUP_PREFIX)]
    dtypes = group_dtypes(tensors)
    names = [strings.get(name) for name in columns] or [None] * len(dtypes)
    return [Labels(dtype == "uint64", its) for dtype, its in zip(dtypes, names, strict=True)]


def _too_large(layout: Layout, needed: int, most: int) -> RequestError:
    detail = f"the report needs {needed} bytes of memory, at most {most} are allowed; {_remedy(layout)}"
    return RequestError(ErrorCode.OUTPUT_TOO_LARGE, detail, [("/report", "too large")])


def _remedy(layout: Layout) -> str:
    """Return what makes a report smaller, by its largest section."""
    cells = dict(layout.cells)
    if layout.by_group:
        cells["groups"] = _GROUPS * layout.group_sums.width
    if "histogram" in layout.spec.sections:
        cells["histogram"] = layout.counts.width
    if layout.spec.top:
        cells["top"] = layout.spec.top
    if not cells:
        return "send rows of fewer elements"
    section = max(cells, key=cells.__getitem__)
    return f"`{section}` takes most: {_REMEDIES[section]}"

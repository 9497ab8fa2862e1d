"""Compare two models' losses."""

import os
import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from numbers import Real
from typing import Any, TypeAlias

from lossd_client.comparison._bound import Bound
from lossd_client.comparison._change import Change, judged
from lossd_client.comparison._comparison import Comparison
from lossd_client.comparison._estimates import Measured, paired_by_cluster, paired_by_row, unpaired
from lossd_client.comparison._findings import Findings
from lossd_client.comparison._notes import on_run
from lossd_client.comparison._pairing import Pairing, Sides
from lossd_client.report import Report
from lossd_client.report._figures.clusters import Clusters, Key
from lossd_client.report._figures.figures import RowFigures, normalizer_of
from lossd_client.report._figures.groups import Group, GroupId, Groups
from lossd_client.report._inside import clusters_of, has_baseline_squares, paired_clusters

ReportLike: TypeAlias = Report | str | os.PathLike[str]


def compare(
    new: ReportLike,
    baseline: ReportLike | None = None,
    *,
    by: str | Sequence[str] = (),
    clusters: str | Sequence[str] = (),
    max_regression: float | str = 0.0,
    confidence: float = 0.95,
) -> Comparison:
    """Compare a model's mean loss with another's, and judge whether it has grown by more than a bound.

    Two models that were scored in one request are compared row by row: the difference of the means is then
    surer than each of them. Two reports with the same clusters are compared cluster by cluster. Others are
    compared as means of other rows. `Comparison.pairing` and `notes` say which it was, and why.

    "regressed" is a mean whose two-sided interval lies wholly above the bound, "passed" one of whose interval
    nothing does. What lies between is "undecided": more rows would tell.

    Args:
        new: The report of the new model, or the path of one.
        baseline: That of the model that it is compared with. None if the new report has the section paired.
        by: Names of groups, each of which is judged too. Their intervals are wider than that of the whole, so
            that all of them hold at once with the confidence asked for (Bonferroni).
        clusters: Names of groups whose rows may depend on each other, such as the frames of one video.
            Standard errors are then by cluster (jackknife), otherwise by row.
        max_regression: By how much the mean may grow: a number in units of the loss, or a share of the
            baseline's mean, such as "0.5%".
        confidence: The confidence of the intervals.

    Raises:
        NotComparable: The two are of different losses or parameters, or lack what is asked for.
        TypeError: An argument is of another kind.
        ValueError: An argument is out of range, or a file holds no report.
        OSError: A file cannot be read.
    """
    bound = Bound.of(max_regression)
    _check_confidence(confidence)
    sides = Sides(
        _report("new", new),
        None if baseline is None else _report("baseline", baseline),
        _names("by", by),
        _names("clusters", clusters),
    )
    sides.check()
    pairing, notes = sides.pairing()
    measuring = _Measuring(sides, pairing)
    whole = judged(measuring.whole(), bound, confidence)
    measured = dict(measuring.groups()) if sides.by else {}
    each = 1 - (1 - confidence) / max(len(measured), 1)
    groups = {id: judged(its, bound, each) for id, its in measured.items()}  # noqa: A001
    return Comparison(
        loss_name=sides.new.loss_name,
        params=dict(sides.new.params),
        whole=whole,
        groups=groups,
        by=sides.by,
        clusters=sides.clusters,
        pairing=pairing,
        max_regression=bound.given,
        bound=bound.value,
        is_relative=bound.is_relative,
        confidence=confidence,
        notes=(
            *notes,
            *measuring.notes(bound, whole),
            *Findings(bound, pairing, whole, groups).notes(measuring.sizes),
        ),
    )


def _check_confidence(confidence: object) -> None:
    if isinstance(confidence, bool) or not isinstance(confidence, Real):
        raise TypeError(f"confidence must be a number between 0 and 1, such as 0.95, and is {confidence!r}")
    if not 0 < float(confidence) < 1:
        raise ValueError(f"confidence is between 0 and 1, such as 0.95, and is {confidence}")


def _report(parameter: str, given: ReportLike) -> Report:
    if isinstance(given, Report):
        return given
    if not isinstance(given, str | os.PathLike):
        raise TypeError(f"{parameter} must be a Report or the path of one, and is {reprlib.repr(given)}")
    try:
        return Report.load(given)
    except ValueError as error:
        raise ValueError(f"{parameter}: {error}") from error


def _names(parameter: str, given: str | Sequence[str]) -> tuple[str, ...]:
    several: Any = (given,) if isinstance(given, str) else given
    names = tuple(several) if isinstance(several, Iterable) else (None,)
    if not all(isinstance(name, str) for name in names):
        raise TypeError(f"{parameter} must be the name of groups, or names, and is {reprlib.repr(given)}")
    if len(set(names)) < len(names):
        raise ValueError(f"{parameter} names a group twice: {', '.join(names)}")
    return names


class _Measuring:
    """Measures two reports, as a whole and by group."""

    def __init__(self, sides: Sides, pairing: Pairing) -> None:
        self._sides = sides
        self._pairing = pairing
        self._cells = self._cells_of(sides.new, is_paired=pairing != "none")
        self._other_cells = (
            self._cells_of(sides.baseline, is_paired=False)
            if pairing == "none" and sides.baseline is not None
            else None
        )

    def _cells_of(self, report: Report, *, is_paired: bool) -> Clusters | None:
        """Return the clusters within each group, with the sums of both models where these are paired."""
        sides = self._sides
        if not sides.clusters:
            return None
        groups = report.groups.by(*sides.names)
        if not is_paired:
            return clusters_of(groups)
        if self._pairing == "rows" or sides.baseline is None:
            return paired_clusters(groups, None)
        return paired_clusters(groups, sides.baseline.groups.by(*sides.names))

    def whole(self) -> Measured:
        """Measure all rows."""
        return self._measured(
            self._sides.new,
            self._sides.baseline,
            *self._whole_cells,
        )

    @cached_property
    def _whole_cells(self) -> tuple[Clusters | None, Clusters | None]:
        """The clusters of both, whatever the group."""
        return self._together(self._cells), self._together(self._other_cells)

    @property
    def sizes(self) -> list[Sequence[int]]:
        """The rows of the clusters of each report that has its own."""
        return [cells.rows for cells in self._whole_cells if cells is not None]

    def _together(self, cells: Clusters | None) -> Clusters | None:
        """Return clusters whatever the group."""
        if cells is None or not self._sides.by:
            return cells
        places = [self._sides.names.index(name) for name in self._sides.clusters]
        return cells.by(lambda key: tuple(key[place] for place in places))

    def groups(self) -> Iterator[tuple[GroupId, Measured]]:
        """Measure each group, in ascending order of their ids."""
        new, baseline = self._grouped(self._sides.new), None
        ids = new.ids
        if self._sides.baseline is not None and self._pairing != "rows":
            baseline = self._grouped(self._sides.baseline)
            ids = sorted({*ids, *baseline.ids})
        cells, other = self._split(self._cells), self._split(self._other_cells)
        for id in ids:  # noqa: A001
            key = id if isinstance(id, tuple) else (id,)
            yield (
                id,
                self._measured(
                    _found(new, id),
                    None if baseline is None else _found(baseline, id),
                    None if cells is None or self._cells is None else cells.get(key, self._cells.none),
                    None
                    if other is None or self._other_cells is None
                    else other.get(key, self._other_cells.none),
                ),
            )

    def _grouped(self, report: Report) -> Groups:
        return report.groups.by(*self._sides.by)

    def _split(self, cells: Clusters | None) -> Mapping[Key, Clusters] | None:
        return None if cells is None else dict(cells.split(len(self._sides.by)))

    def _measured(
        self,
        new: Report | Group | None,
        baseline: RowFigures | None,
        cells: Clusters | None,
        other_cells: Clusters | None,
    ) -> Measured:
        if self._pairing == "rows" and new is not None:
            return paired_by_row(new, new.paired, cells)
        if self._pairing == "clusters" and new is not None and baseline is not None and cells is not None:
            return paired_by_cluster(new, baseline, cells)
        return unpaired(new, baseline, cells, other_cells, normalizer_of(self._sides.new.params))

    def notes(self, bound: Bound, whole: Change) -> Iterator[str]:
        """Yield what the reports leave open."""
        sides = self._sides
        if self._pairing == "rows":
            yield from on_run(sides.new, whole.rows, whole.equal)
        by_row = self._pairing == "rows" and not sides.clusters
        if by_row and bound.is_relative and not has_baseline_squares(sides.new.paired):
            yield (
                "The report is of an earlier version, without the squares of the baseline's losses: the "
                "relative change takes the baseline's mean as known, and its interval is only nearly right."
            )
        if sides.by and set(sides.clusters) and set(sides.clusters) <= set(sides.by):
            yield (
                f"Each group by {', '.join(sides.by)} is one cluster, and within it no interval can be had: "
                "name clusters of which a group has several."
            )


def _found(groups: Groups, id: GroupId) -> Group | None:  # noqa: A002
    return groups[id] if id in groups else None  # noqa: SIM401 - get() would make it twice

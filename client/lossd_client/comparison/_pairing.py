"""Whether two reports are of the same rows, or of the same clusters, and which it is."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from lossd_client.comparison._checks import (
    NotComparable,
    refuse_other_rows,
    refuse_unknown_weights,
    refuse_unlike,
)
from lossd_client.comparison._data import refuse_other_elements, same_files
from lossd_client.comparison._notes import on_reports
from lossd_client.report import Report
from lossd_client.report._figures.groups import Groups
from lossd_client.report._inside import counts_of, keys_of, kinds_of, paired_fields, sums_of, totals_of

Pairing: TypeAlias = Literal["rows", "clusters", "none"]

TO_PAIR: Final = "score both models in one request, with baseline=, to compare row by row"
UNPAIRED: Final = "the new report has no section paired"
NO_CLUSTERS: Final = "no clusters are named"
_COUNTS: Final = ("rows", "rows_dropped", "elements", "dropped", "count")
_SUMS: Final = ("weight_sum", "positives")


@dataclass(frozen=True)
class Sides:
    """The two reports, and how their rows are grouped.

    Attributes:
        new: The new report.
        baseline: The baseline's; None where the new report's section paired is all that there is.
        by: The names of the groups that are judged.
        clusters: The names of the clusters.
    """

    new: Report
    baseline: Report | None
    by: tuple[str, ...]
    clusters: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """All names: those of groups, then those that only clusters have."""
        return tuple(dict.fromkeys((*self.by, *self.clusters)))

    def check(self) -> None:
        """Refuse reports that cannot be compared, or lack groups.

        Raises:
            NotComparable: The message says which.
        """
        if self.baseline is not None:
            refuse_unlike(self.new, self.baseline)
        elif "paired" not in self.new.sections:
            raise NotComparable(
                "the new report has no section paired: give the baseline's report too, or make the new one "
                "with baseline=, the other model's inputs"
            )
        _check_names(self.new, self.names, "the new report")

    def pairing(self) -> tuple[Pairing, list[str]]:
        """Return how the two are paired, and sentences on that.

        Raises:
            NotComparable: They are of other rows, and that cannot be.
        """
        if self.baseline is None:
            return "rows", []
        notes = list(on_reports(self.new, self.baseline))
        if "paired" in self.new.sections:
            other = _not_the_baseline(self.new, self.baseline)
            if other is None:
                return "rows", notes
            lack = f"the new report's section paired is of another baseline, whose {other}"
        else:
            lack = UNPAIRED
        refuse_unknown_weights(self.new)
        refuse_other_elements(self.new, self.baseline)
        _check_names(self.baseline, self.names, "the baseline")
        _check_kinds(self.new, self.baseline, self.names)
        if not self.clusters:
            unlike = NO_CLUSTERS
        else:
            found = _other_groups(self.new.groups.by(*self.names), self.baseline.groups.by(*self.names))
            if found is None:
                return "clusters", [*notes, f"Paired by cluster and not by row: {lack}."]
            unlike = found
        refuse_other_rows(self.new, self.baseline)
        return "none", [*notes, f"Not paired: {lack}, and {unlike}.", self._on_unpaired()]

    def _on_unpaired(self) -> str:
        known = (
            "Both are of the same targets, and the interval is wider than it need be"
            if self.baseline is not None and same_files(self.new, self.baseline, "targets")
            else "The interval takes the rows of the two to be independent; if they are the same rows, it is "
            "wider than it need be"
        )
        return f"{known}: {TO_PAIR}."


def _check_names(report: Report, names: Sequence[str], which: str) -> None:
    if not names:
        return
    if "groups" not in report.sections:
        raise NotComparable(
            f"{which} has no groups, and by {', '.join(names)} is asked for: make it with groups=, an id for "
            "each row"
        )
    there = report.groups.names
    for name in names:
        if name not in there:
            raise NotComparable(f"{which} has no groups by {name!r}; there are {', '.join(there)}")


def _check_kinds(new: Report, baseline: Report, names: Sequence[str]) -> None:
    for name in names:
        its, other = (kinds_of(each.groups)[name] for each in (new, baseline))
        if its != other and len(new.groups) and len(baseline.groups):
            raise NotComparable(
                f"the ids of {name} are of kind {its} in the new report, and {other} in the baseline, so "
                "that none of them are equal: make both with the same kind"
            )


def _not_the_baseline(new: Report, baseline: Report) -> str | None:
    """Return how a report differs from the one that the section paired is of; None if it does not."""
    totals, its = totals_of(new), totals_of(baseline)
    wanted = {
        "sum_terms": paired_fields(new)["baseline_sum_terms"],
        **{name: totals[name] for name in (*_COUNTS, "weight_sum_terms", "positives_terms")},
    }
    for name, value in wanted.items():
        if its[name] != value:
            shown, other = (each[0] if isinstance(each, list) else each for each in (value, its[name]))
            return f"{name.removesuffix('_terms')} is {shown}, and that of the baseline is {other}"
    return None


def _other_groups(new: Groups, baseline: Groups) -> str | None:
    """Return how the groups of two reports differ but for their losses; None if they do not."""
    names = " and ".join(new.names)
    for mine, other, here, there in (
        (new, baseline, "new report", "baseline"),
        (baseline, new, "baseline", "new report"),
    ):
        lacking = next((each for each in mine if each not in other), None)
        if lacking is not None:
            return f"the group {lacking!r} by {names} is in the {here} and not in the {there}"
    for name, its, others in _columns(new, baseline):
        for key, value, wanted in zip(keys_of(new), its, others, strict=True):
            if value != wanted:
                return (
                    f"the {name} of the group {', '.join(map(repr, key))} by {names} is not the same in both"
                )
    return None


def _columns(new: Groups, baseline: Groups) -> Iterator[tuple[str, Sequence[Any], Sequence[Any]]]:
    """Yield the names and numbers of what the groups of the same rows have in common."""
    for name in _COUNTS:
        yield name.replace("_", " "), counts_of(new, name), counts_of(baseline, name)
    for name in _SUMS:
        mine, other = sums_of(name, new, baseline)
        yield name.replace("_", " "), mine, other

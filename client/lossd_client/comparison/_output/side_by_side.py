"""Two reports side by side, as HTML: their comparison, and the figures of both."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from lossd_client.comparison._output.columns import HEAD, table_rows
from lossd_client.comparison._output.sentences import basis, measured, sentence, signed
from lossd_client.comparison._view import ComparisonView
from lossd_client.report._drawing.calibration import reliability
from lossd_client.report._drawing.html import page, report_page
from lossd_client.report._drawing.markup import escaped, spanned, tag, text
from lossd_client.report._drawing.names import class_name, group_ids, has_positives, is_by_row
from lossd_client.report._drawing.paired import paired_groups, paired_lists, signs
from lossd_client.report._drawing.section import LEVEL, Section
from lossd_client.report._drawing.tables import MOST, Cell, Row, listing, scrolled, table, words
from lossd_client.report._drawing.tables import figure as cell
from lossd_client.report._figures.clusters import Key
from lossd_client.report._figures.figures import Figures
from lossd_client.report._figures.groups import Groups
from lossd_client.report._inside import class_ranks, group_ranks
from lossd_client.report._view import ReportView

KeyT = TypeVar("KeyT")

_VERDICTS: Final = {"regressed": "is worse", "passed": "is not worse", "undecided": "is not surely worse"}


def comparison_page(
    comparison: ComparisonView, names: tuple[str, str], new: ReportView, baseline: ReportView | None
) -> str:
    """Return two reports side by side as a page; or that of both models, below its verdict."""
    if baseline is None:
        verdict = Section("Verdict", *judgement(comparison, names, has_gate=True))
        return report_page(new, verdict.drawn("comparison", has_id=True))
    paired = new if "paired" in new.sections else None
    both = SideBySide(comparison, names, new, baseline, paired, has_gate=True)
    return page(both.title, both.fragment())


def judgement(comparison: ComparisonView, names: tuple[str, str], *, has_gate: bool) -> Iterator[str]:
    """Yield whether the new model is worse, from which rows, and what may surprise.

    Args:
        comparison: The comparison.
        names: What the new model and the baseline are called.
        has_gate: Whether somebody asks if it passes a bound, as the command's users do.
    """
    whole = comparison.whole
    verdict = "is better" if whole.interval[1] < 0 else _VERDICTS[whole.verdict]
    new, baseline = (tag("bdi", text(name)) for name in names)
    why = sentence(whole, comparison) if has_gate else measured(whole, comparison)
    if whole.reason and not has_gate:
        why += f", as {whole.reason}"
    said = f"{new} {tag('strong', verdict)} than {baseline}, the baseline: {escaped(why)}."
    yield tag("p", said, class_="lossd-lead")
    yield tag("p", f"{escaped(basis(whole, comparison))}.")
    if comparison.by:
        rows, rest = table_rows(comparison, MOST)
        caption = f"Judged by {', '.join(comparison.by)}"
        yield scrolled(table(HEAD, rows, caption=caption, names=2), caption)
        yield tag("p", escaped(rest)) if rest else ""
    notes = [tag("li", escaped(note)) for note in comparison.notes]
    yield tag("ul", *notes) if notes else ""


@dataclass(frozen=True)
class SideBySide:
    """Two reports and their comparison.

    Attributes:
        comparison: The comparison, of which the first report is the new one.
        names: What the two are called.
        new: The first report.
        baseline: The second.
        paired: The first one's report with the second model as its baseline, if there is one.
        has_gate: Whether somebody asks if the new one passes a bound.
    """

    comparison: ComparisonView
    names: tuple[str, str]
    new: ReportView
    baseline: ReportView
    paired: ReportView | None = None
    has_gate: bool = False

    def fragment(self) -> str:
        """Return it as a part of a page that has the style of reports."""
        sections = {
            "comparison": self._compared(),
            "totals": self._totals(),
            "classes": self._classes(),
            "groups": self._groups(),
            "calibration": self._calibration(),
        }
        drawn = (each.drawn(name, has_id=True) for name, each in sections.items() if each is not None)
        return tag("div", *drawn, class_="lossd")

    @property
    def title(self) -> str:
        """What the page of it is called."""
        return f"{self.names[0]} against {self.names[1]}"

    def _compared(self) -> Section:
        """Return the verdict, and what is better and worse where that is known row by row."""
        paired = self._by_row
        return Section(
            "In short",
            *judgement(self.comparison, self.names, has_gate=self.has_gate),
            *(() if paired is None else (*signs(paired), *paired_lists(paired, MOST))),
        )

    @property
    def _by_row(self) -> ReportView | None:
        """The report of both models, if it is of these two."""
        return self.paired if self.comparison.pairing == "rows" else None

    def _totals(self) -> Section:
        both = (self.new, self.baseline)
        rows: list[Row] = [
            ("mean", *self._differing([each.mean for each in both])),
            ("95 % interval, by rows", *(_interval(each) for each in both), ""),
            ("standard error, by rows", *self._differing([each.stderr for each in both])),
        ]
        rows += [(name, *self._differing([getattr(each, name) for each in both])) for name in self._counted()]
        listed = table(("figure", *self._head()), rows, caption="All rows")
        return Section("Both runs", scrolled(listed, "All rows"))

    def _counted(self) -> list[str]:
        elements = [] if is_by_row(self.new) else ["elements"]
        positives = ["positives"] if has_positives(self.new) else []
        return ["rows", *elements, "sum", *positives]

    def _head(self) -> tuple[str, str, str]:
        return (*self.names, "difference")

    def _differing(self, values: Sequence[float]) -> list[Cell]:
        """Return the cells of two figures, and of how much greater the first is."""
        new, baseline = values
        change = new - baseline
        return [cell(new), cell(baseline), Cell(signed(change), change)]

    def _means(self, new: Figures | None, baseline: Figures | None) -> list[Cell]:
        """Return the cells of two means; of a worse one, the difference is marked."""
        means = [math.nan if each is None else each.mean for each in (new, baseline)]
        *both, change = self._differing(means)
        sign = change.value or 0.0
        kind = "lossd-worse" if sign > 0 else "lossd-better" if sign < 0 else None
        return [*both, change._replace(kind=kind)]

    def _classes(self) -> Section | None:
        if not all("classes" in each.sections for each in (self.new, self.baseline)):
            return None
        new, baseline = self.new.classes, self.baseline.classes
        title = "Loss by class"
        if len(new) != len(baseline):
            said = f"The runs have {len(new):,} and {len(baseline):,} classes"
            return Section(title, tag("p", f"{said}, which cannot be set side by side."))
        named = self.new if self.new.class_names else self.baseline
        order = _by_difference(class_ranks(new), class_ranks(baseline))
        rows: list[Row] = [
            (words(class_name(named, place)), *self._means(new[place], baseline[place]))
            for place in order[:MOST]
        ]
        listed = listing("Classes", ("class", *self._head()), rows, total=len(new), noun="classes")
        return Section(title, listed)

    def _groups(self) -> Section | None:
        if not all("groups" in each.sections for each in (self.new, self.baseline)):
            return None
        names, others = self.new.groups.names, self.baseline.groups.names
        common = tuple(name for name in names if name in others)
        if not common:
            said = f"The runs have no groups of one name: {', '.join(names)} and {', '.join(others)}."
            return Section("Loss by group", tag("p", text(said)))
        paired = () if self._by_row is None else paired_groups(self._by_row, MOST)
        return Section(f"Loss by {', '.join(common)}", self._listed(common), *paired)

    def _listed(self, names: tuple[str, ...]) -> str:
        new, baseline = (each.groups.by(*names) for each in (self.new, self.baseline))
        order = _by_difference(group_ranks(new), group_ranks(baseline))
        rows: list[Row] = [
            (*map(words, group_ids(key)), *self._means(_found(new, key), _found(baseline, key)))
            for key in order[:MOST]
        ]
        title = f"Groups by {', '.join(names)}"
        head = (*names, *self._head())
        return listing(title, head, rows, total=len(order), noun="groups", names=len(names))

    def _calibration(self) -> Section | None:
        if not all("calibration" in each.sections for each in (self.new, self.baseline)):
            return None
        both = [each.calibration for each in (self.new, self.baseline)]
        figures = _CALIBRATED if any(each.soft for each in both) else {**_CALIBRATED, **_RANKING}
        is_of_top_class = both[0].is_of_top_class
        if is_of_top_class:
            figures = {name: title for name, title in figures.items() if name != "average_precision"}
        rows: list[Row] = [
            (title, *self._differing([getattr(each, name) for each in both]))
            for name, title in figures.items()
        ]
        if is_of_top_class and all(each.count for each in both):
            rights = [each.positives / each.count for each in both]
            rows.insert(0, ("share that is right", *self._differing(rights)))
        listed = table(("figure", *self._head()), rows, caption="Calibration of both")
        bins = [(name, each.reliability()) for name, each in zip(self.names, both, strict=True)]
        return Section(
            "Calibration",
            scrolled(listed, "Calibration of both"),
            reliability(bins, is_of_top_class=is_of_top_class),
        )


_CALIBRATED: Final = {
    "brier": "Brier score",
    "ece": "expected calibration error",
    "mce": "greatest calibration error",
    "cross_entropy": "cross entropy",
    "normalized_entropy": "normalized entropy",
}
_RANKING: Final = {"auroc": "AUROC", "average_precision": "average precision"}


def _interval(report: ReportView) -> str:
    return spanned(report.interval(LEVEL), report.rows_kept)


def _found(groups: Groups, key: Key) -> Figures | None:
    id = key if len(groups.names) > 1 else key[0]  # noqa: A001
    return groups[id] if id in groups else None  # noqa: SIM401 - get() would make it twice


def _by_difference(new: Mapping[KeyT, float], baseline: Mapping[KeyT, float]) -> list[KeyT]:
    """Return what either has, the greatest worsening first; what cannot be compared is last."""
    return sorted(
        {**new, **baseline},
        key=lambda key: _worsening(new.get(key, math.nan) - baseline.get(key, math.nan)),
    )


def _worsening(change: float) -> tuple[bool, float]:
    return math.isnan(change), -change

"""What matters of a report, in words."""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeAlias

from lossd_client.report._drawing.markup import counted, joined, number, percent, tag, text
from lossd_client.report._drawing.names import class_name, element_words, group_name, row_name
from lossd_client.report._drawing.section import LEVEL, NAMES_ALONE
from lossd_client.report._drawing.standing import TRIED, classes_standing_out, groups_standing_out
from lossd_client.report._figures.figures import Figures, RowFigures, normalizer_of, worse_first
from lossd_client.report._figures.top import TopRow
from lossd_client.report._view import ReportView

_NAMED: Final = 3  # that share the worst place
_SAME: Final = 1e-3  # a ratio that differs less from 1 says nothing
_NEAR: Final = 1.1  # a ratio below is said in percent
_MANY: Final = 100  # a ratio from here on is said in whole numbers

Link: TypeAlias = Callable[[str, str], str]
"""Makes markup lead to a section, by its name."""


def linked(words: str, section: str) -> str:
    """Return words that lead to a section of the same page."""
    return tag("a", words, href=f"#lossd-{section}")


def unlinked(words: str, _: str) -> str:
    """Return the words alone, where many reports are on one page."""
    return words


def summary(report: ReportView, link: Link) -> str:
    """Return the mean and the worst of everything, as a paragraph."""
    worst = list(_worst(report, link))
    said = [*_mean(report), *([f"{_upper(joined(worst))}."] if worst else [])]
    said += [*_tied_rows(report, link), *_paired(report, link)]
    return tag("p", " ".join(said), class_="lossd-lead")


def _upper(words: str) -> str:
    """Return a sentence that begins with "the" or "no", maybe within a link."""
    return re.sub(r"\b(the|no)\b", lambda found: found[0].title(), words, count=1)


def _mean(report: ReportView) -> Iterator[str]:
    name, rows = text(report.loss_name), counted(report.rows, "row")
    if not report.count:
        yield f"{name}: nothing was scored in {rows}."
        return
    low, high = report.interval(LEVEL)
    interval = "" if math.isnan(low) else f", 95 % interval {number(low, 4)} to {number(high, 4)}"
    yield f"{name}: mean {tag('strong', number(report.mean, 4))}{interval} over {rows}."
    for word, count in (("NaN", report.nan), ("infinite", report.infinite)):
        if count:
            nouns = element_words(report)[1]
            yield f"{counted(count, 'loss', 'losses')} of {nouns} {'is' if count == 1 else 'are'} {word}."


def _worst(report: ReportView, link: Link) -> Iterator[str]:
    """Yield the worst class, the worst group by each name, and the worst row where no other is as bad."""
    if not report.count:
        return
    if "classes" in report.sections:
        yield from _worst_class(report, link)
    if "groups" in report.sections:
        for name in report.groups.names[:NAMES_ALONE]:
            yield from _worst_group(report, link, name)
    if _tied(report) == 1:
        row = report.top_rows[0]
        figures = ", ".join(_of_row(row, report, "its"))
        yield f"{link('the worst row', 'top')} is {tag('bdi', text(row_name(row)))} ({figures})"


def _worst_class(report: ReportView, link: Link) -> Iterator[str]:
    """Yield the worst of the classes that stand out.

    It is by the share of the sum where a mean does not divide by elements: over positives, one positive is
    enough for the greatest mean.
    """
    classes = report.classes
    if sum(each > 0 for each in classes._part.block.counts("count").tolist()) < 2:
        return
    out = [classes[place] for place in classes_standing_out(report)]
    if not out:
        yield f"no {link('class', 'classes')} stands out"
        return
    one, several, order = ("the worst class", "the worst classes", worse_first)
    if not _is_by_element(report):
        one, several = (
            f"the {noun} of the sum"
            for noun in ("class of the greatest share", "classes of the greatest shares")
        )
        order = _greater_first
    nouns = link(one, "classes"), link(several, "classes")
    yield _named(report, nouns, [(class_name(report, each.index), each) for each in sorted(out, key=order)])


def _is_by_element(report: ReportView) -> bool:
    return normalizer_of(report.params) == "count"


def _greater_first(figures: Figures) -> tuple[bool, float]:
    """Return a key that sorts by the sum, NaN before all."""
    return not math.isnan(figures.sum), -figures.sum


def _worst_group(report: ReportView, link: Link, name: str) -> Iterator[str]:
    """Yield the worst of the groups that stand out."""
    groups = report.groups.by(name)
    if len(groups) < 2:
        return
    out = groups_standing_out(report, groups)
    called = tag("bdi", text(name))
    if not out:
        some = f" of the {TRIED} worst" if len(groups) > TRIED else ""
        yield f"no {link(called, 'groups')}{some} stands out"
        return
    nouns = link(f"the worst {called}", "groups"), link(f"the worst by {called}", "groups")
    yield _named(report, nouns, [(group_name(each.id), each) for each in out])


def _named(report: ReportView, nouns: tuple[str, str], found: Sequence[tuple[str, Figures]]) -> str:
    """Return which part is the worst, or which are.

    Args:
        report: The report.
        nouns: What the worst one is, and the worst are, as markup.
        found: The parts with their names, the worst first.
    """
    first = found[0][1]
    tied = [tag("bdi", text(name)) for name, each in found if _same(each.mean, first.mean)]
    figures = _figures(first, report)
    if len(tied) > _NAMED:
        return f"{nouns[0]} is {tied[0]} ({figures}), as several are"
    if len(tied) > 1:
        return f"{nouns[1]} are {joined(tied)} ({figures})"
    return f"{nouns[0]} is {tied[0]} ({figures})"


def _figures(each: Figures, report: ReportView) -> str:
    said = [number(each.mean, 3), *_times(each.mean, report.mean, "the mean")]
    if isinstance(each, RowFigures):
        said.append(counted(each.rows, "row"))
    elif not _is_by_element(report):
        share = each.sum / report.sum if report.sum > 0 else math.nan
        said = [f"{percent(share)} of it"] if math.isfinite(share) else []
        said.append(f"mean {number(each.mean, 3)}")
    if normalizer_of(report.params) == "positives":
        said.append(f"{number(each.positives)} positive{'' if each.positives == 1 else 's'}")
    return ", ".join(said)


def _times(value: float, whole: float, what: str) -> Iterator[str]:
    """Yield how many times as great a figure is, or by how much it is greater."""
    ratio = value / whole if whole > 0 else math.nan
    if not math.isfinite(ratio) or abs(ratio - 1) < _SAME:
        return
    if 1 < ratio < _NEAR:
        yield f"{percent(ratio - 1)} above {what}"
    else:
        yield f"{f'{ratio:,.0f}' if ratio >= _MANY else f'{ratio:.2g}'} times {what}"


def _tied(report: ReportView) -> int:
    """Return how many of the listed rows have the greatest loss."""
    if not report.count or "top" not in report.sections:
        return 0
    rows = report.top_rows
    return sum(_same(row.loss, rows[0].loss) for row in rows)


def _tied_rows(report: ReportView, link: Link) -> Iterator[str]:
    """Yield which rows have the greatest loss, where there are several."""
    tied = _tied(report)
    if tied < 2:
        return
    first = report.top_rows[0]
    name = row_name(first) if first.id is not None else row_name(first).capitalize()
    least = "at least " if tied == len(report.top_rows) < report.rows_kept else ""
    loss, *more = _of_row(first, report, "their")
    figures = f"{loss} ({more[0]})" if more else loss
    yield (
        f"{tag('bdi', text(name))} and {least}{counted(tied - 1, 'other')} have "
        f"{link('the greatest loss', 'top')}, {figures}."
    )


def _of_row(row: TopRow, report: ReportView, whose: str) -> Iterator[str]:
    """Yield what a row's loss is, and how it is beside an average one's."""
    shape = report._document["totals"]["row_shape"]
    elements = math.prod(shape) if shape is not None and not report.dropped else None
    is_mean = report.params.get("row") == "mean"
    if elements == 1 or not math.isfinite(row.loss):
        yield number(row.loss, 3)
    else:
        nouns = element_words(report)[1]
        its = f"{whose} {nouns}" if elements is None else f"{whose} {elements:,} {nouns}"
        yield f"{number(row.loss, 3)}{' on average' if is_mean else ''} over {its}"
    if is_mean and elements is None:  # rows of other sizes have another average than elements
        return
    rows = report.count if is_mean else report.rows_kept
    yield from _times(row.loss, report.sum / rows if rows else math.nan, "an average row")


def _same(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))


def _paired(report: ReportView, link: Link) -> Iterator[str]:
    if "paired" not in report.sections or not report.count:
        return
    low, high = report.paired.interval(LEVEL)
    mean = report.paired.mean
    whom = link("the baseline's", "paired")
    if mean == 0:
        yield f"The mean is {whom}."
        return
    size, ends = number(abs(mean), 3), f"{number(low, 3)} to {number(high, 3)}"
    if low <= 0 <= high:
        it = f"{size} {'higher' if mean > 0 else 'lower'} than {whom}"
        doubt = f"the 95 % interval of the difference, {ends}, holds 0"
        yield f"The mean is {it}, but not surely: {doubt}."
        return
    sign = "worse" if mean > 0 else "better" if mean < 0 else "different"
    interval = "" if math.isnan(low) else f" (95 % interval of the difference {ends})"
    yield f"{link('Against the baseline', 'paired')} it is {sign} by {size}{interval}."

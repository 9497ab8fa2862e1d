"""What matters of a report, in words."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeAlias

from lossd_client.report._drawing.markup import counted, joined, number, tag, text
from lossd_client.report._drawing.names import class_name, group_name, row_name
from lossd_client.report._drawing.section import LEVEL
from lossd_client.report._figures.figures import Figures, RowFigures
from lossd_client.report._view import ReportView

_NAMED: Final = 3  # that share the worst place

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
    said = [*_mean(report), *([f"{_upper(joined(worst))}."] if worst else []), *_paired(report, link)]
    return tag("p", " ".join(said), class_="lossd-lead")


def _upper(words: str) -> str:
    """Return a sentence that begins with "the", maybe within a link, or with a name."""
    return words.replace("the ", "The ", 1)


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
            yield f"{counted(count, 'loss', 'losses')} of elements {'is' if count == 1 else 'are'} {word}."


def _worst(report: ReportView, link: Link) -> Iterator[str]:
    """Yield the worst class, the worst group by each name, and the worst row."""
    if "classes" in report.sections:
        classes = [(class_name(report, each.index), each) for each in report.classes.worst(_NAMED + 1)]
        nouns = link("the worst class", "classes"), link("the worst classes", "classes")
        yield from _worst_of(report, nouns, classes)
    if "groups" in report.sections:
        for name in report.groups.names:
            found = report.groups.by(name).worst(_NAMED + 1)
            groups = [(group_name(each.id), each) for each in found]
            named = tag("bdi", text(name))
            nouns = link(f"the worst {named}", "groups"), link(f"the worst by {named}", "groups")
            yield from _worst_of(report, nouns, groups)
    if "top" in report.sections and report.top_rows:
        yield _worst_row(report, link)


def _worst_of(
    report: ReportView, nouns: tuple[str, str], found: Sequence[tuple[str, Figures]]
) -> Iterator[str]:
    """Yield which of some parts is the worst; nothing if there are no two, or all are alike.

    Args:
        report: The report.
        nouns: What the worst one is, and the worst are, as markup.
        found: The worst of them, one more than are named, with their names.
    """
    scored = [(name, each) for name, each in found if not math.isnan(each._divided(0.0))]
    tied = [(name, each) for name, each in scored if _same(each.mean, scored[0][1].mean)]
    if len(scored) < 2 or len(tied) == len(scored) <= _NAMED:
        return
    names = [tag("bdi", text(name)) for name, _ in tied]
    figures = _figures(tied[0][1], report)
    if len(tied) > _NAMED:
        yield f"{nouns[0]} is {names[0]} ({figures}), as several are"
    elif len(tied) > 1:
        yield f"{nouns[1]} are {joined(names)} ({figures})"
    else:
        yield f"{nouns[0]} is {names[0]} ({figures})"


def _figures(each: Figures, report: ReportView) -> str:
    said = [number(each.mean, 3)]
    if report.mean > 0 and math.isfinite(each.mean / report.mean):
        said.append(f"{each.mean / report.mean:.2g} times the mean")
    if isinstance(each, RowFigures):
        said.append(counted(each.rows, "row"))
    return ", ".join(said)


def _worst_row(report: ReportView, link: Link) -> str:
    rows = report.top_rows
    tied = sum(_same(row.loss, rows[0].loss) for row in rows)
    others = (
        f", as {'at least ' if tied == len(rows) else ''}{counted(tied - 1, 'other')}" if tied > 1 else ""
    )
    name = tag("bdi", text(row_name(rows[0])))
    return f"{link('the worst row', 'top')} is {name} ({number(rows[0].loss, 3)}{others})"


def _same(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))


def _paired(report: ReportView, link: Link) -> Iterator[str]:
    if "paired" not in report.sections or not report.count:
        return
    low, high = report.paired.interval(LEVEL)
    mean = report.paired.mean
    interval = "" if math.isnan(low) else f", 95 % interval {number(low, 3)} to {number(high, 3)}"
    sign = "worse" if mean > 0 else "better" if mean < 0 else "different"
    yield (
        f"{link('Against the baseline', 'paired')} it is {sign} by {number(abs(mean), 3)} "
        f"(loss less the baseline's {number(mean, 3)}{interval})."
    )

"""Reports and results as HTML, for notebooks and for a page of their own: no scripts, no other files."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from lossd_client.report._drawing.diagrams import calibration_pictures, histogram, sweep_picture
from lossd_client.report._drawing.markup import counted, number, table, tag, text
from lossd_client.report._drawing.pictures import Bar, bars, shares
from lossd_client.report._drawing.style import style
from lossd_client.report._figures.calibration import Calibration
from lossd_client.report._view import ReportView

_SHOWN: Final = 20  # bars, and lines of a list
_LISTED: Final = 200  # shards
_LEVEL: Final = 0.95
_QUANTILES: Final = (0.5, 0.9, 0.99, 0.999)


def report_html(report: ReportView) -> str:
    """Return a report as a fragment of HTML, with its style."""
    return tag("style", style()) + report_fragment(report)


def report_fragment(report: ReportView) -> str:
    """Return a report as a fragment of HTML, without a style."""
    document = report._document
    return tag("div", *(part(report, document) for part in _PARTS), class_="lossd")


def fragment(*parts: str) -> str:
    """Return parts of HTML as one, with their style."""
    return tag("style", style()) + tag("div", *parts, class_="lossd")


def report_page(report: ReportView) -> str:
    """Return a report as a whole page."""
    title = f"{report._document['totals']['loss']} report"
    head = tag(
        "head",
        '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        tag("title", text(title)),
        tag("style", style()),
    )
    body = tag("body", report_fragment(report), class_="lossd-page")
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"


def result_html(result: Any) -> str:  # noqa: ANN401 - its module leads to this one
    """Return the figures and parameters of a `LossResult` as a fragment of HTML."""
    shape = getattr(result.loss, "shape", ())
    loss = f"array of shape {list(shape)}" if shape else repr(float(result.loss))
    rows = [
        ("loss", loss),
        *((name, repr(getattr(result, name))) for name in ("sum", "count", "weight_sum", "positives")),
        ("reduction", result.reduction),
        *((name, _shown(value)) for name, value in {**result.params, **result.options}.items()),
        *((name, _shown(getattr(result, name))) for name in ("kernel", "device", "version")),
        *(("note", note) for note in result.notes),
    ]
    listed = table(("", result.loss_name), rows, caption=f"{result.loss_name} loss")
    return fragment(listed)


def _shown(value: Any) -> str:  # noqa: ANN401 - a parameter
    return "none" if value is None else str(value)


def _section(title: str, *parts: str) -> str:
    return tag("section", tag("h2", text(title)), *parts)


def _figure(picture: str, caption: str = "") -> str:
    return tag("figure", picture, tag("figcaption", text(caption)) if caption else "")


def _details(summary: str, *parts: str) -> str:
    return tag("details", tag("summary", text(summary)), *parts)


def _totals(report: ReportView, document: Mapping[str, Any]) -> str:
    totals = document["totals"]
    low, high = report.interval(_LEVEL)
    rows = [
        ("mean", number(report.mean, 9)),
        ("95 % interval, by rows", f"{number(low)} to {number(high)}"),
        ("standard error, by rows", number(report.stderr)),
        ("rows", f"{totals['rows']:,}{_left_out(totals['rows_dropped'])}"),
        ("elements", f"{totals['elements']:,}{_left_out(totals['dropped'])}"),
        ("sum", number(report.sum, 9)),
        ("positives", number(report.positives)),
    ]
    if totals["weighted"]:
        rows.append(("sum of weights", number(report.weight_sum)))
    rows += [(f"{name} losses", number(totals[name])) for name in ("nan", "infinite") if totals[name]]
    params = [(name, _shown(value)) for name, value in totals["params"].items()]
    return "".join(
        (
            tag("h1", text(f"{totals['loss']} of {totals['inputs']}")),
            table(("figure", "value"), rows, caption="All rows"),
            _details("Parameters", table(("parameter", "value"), params, caption="Parameters of the loss")),
        )
    )


def _left_out(count: int) -> str:
    return f", {count:,} of them dropped" if count else ""


def _classes(report: ReportView, document: Mapping[str, Any]) -> str:
    if "classes" not in document:
        return ""
    found = [
        Bar(f"class {place}", each.mean, counted(each.count, "element"))
        for place, each in enumerate(report.classes)
    ]
    return _section("Loss by class", *_bars("Mean loss by class", found, "classes"))


def _groups(report: ReportView, document: Mapping[str, Any]) -> str:
    if "groups" not in document:
        return ""
    names = ", ".join(document["groups"]["names"])
    found = [
        Bar(_group_name(each.id), each.mean, counted(each.rows, "row"), each.interval(_LEVEL))
        for each in report.groups.values()
    ]
    caption = "Lines are 95 % intervals, by rows."
    return _section(
        f"Loss by {names}",
        *_bars(f"Mean loss by {names}", found, "groups", caption),
        *(_by_one(report, name) for name in report.groups.names if len(report.groups.names) > 1),
    )


def _by_one(report: ReportView, name: str) -> str:
    found = [
        Bar(str(each.id), each.mean, counted(each.rows, "row"), each.interval(_LEVEL))
        for each in report.groups.by(name).values()
    ]
    return "".join(_bars(f"Mean loss by {name} alone", found, "groups", f"By {name} alone."))


def _group_name(name: object) -> str:
    return " / ".join(map(str, name)) if isinstance(name, tuple) else str(name)


def _bars(title: str, found: Sequence[Bar], noun: str, caption: str = "") -> Iterator[str]:
    """Yield the longest bars, and what is said of the others."""
    ordered = sorted(found, key=lambda bar: (not math.isnan(bar.value), -bar.value))
    shown, others = ordered[:_SHOWN], ordered[_SHOWN:]
    if not shown:
        yield tag("p", text(f"There are no {noun}."))
        return
    if others:
        least, most = number(others[-1].value, 4), number(others[0].value, 4)
        caption += (
            f" The {_SHOWN} greatest of {len(ordered):,} {noun}; the others are from {least} to {most}."
        )
    yield _figure(bars(title, shown), caption.strip())
    rows = [(bar.name, number(bar.value), bar.note) for bar in shown]
    yield _details("The same as a table", table((noun, "mean", ""), rows, caption=title))


def _histogram(report: ReportView, document: Mapping[str, Any]) -> str:
    if "histogram" not in document:
        return ""
    parts = []
    for name in ("elements", "rows"):
        picture, apart = histogram(f"Losses of {name}", document["histogram"][name])
        parts.append(_figure(picture, f"Losses of {name}.{apart}"))
    rows = [
        (f"{100 * share:g} %", number(report.quantile(share)), number(report.row_quantile(share)))
        for share in _QUANTILES
    ]
    said = "Quantiles, within 1/32: as many losses are at most"
    return _section("How losses are spread", *parts, table(("", "elements", "rows"), rows, caption=said))


def _calibration(report: ReportView, document: Mapping[str, Any]) -> str:
    if "calibration" not in document:
        return ""
    calibration = report.calibration
    return _section(
        "Calibration",
        table(("figure", "value"), calibration_figures(calibration), caption="Over all classes"),
        *(_figure(*picture) for picture in calibration_pictures(calibration)),
    )


def calibration_figures(calibration: Calibration) -> list[tuple[str, str]]:
    """Return the figures of calibration, named, for people to read."""
    found = [
        ("Brier score", number(calibration.brier)),
        ("expected calibration error", number(calibration.ece)),
        ("greatest calibration error", number(calibration.mce)),
        ("cross entropy", number(calibration.cross_entropy)),
        ("normalized entropy", number(calibration.normalized_entropy)),
    ]
    if calibration.undefined:
        found.append(("NaN, left out", number(calibration.undefined)))
    if calibration.soft:
        return [*found, ("targets neither 0 nor 1", number(calibration.soft))]
    auroc, precision = calibration.auroc, calibration.average_precision
    return [
        *found,
        ("AUROC", _bounded(auroc, calibration.auroc_bounds)),
        ("average precision", _bounded(precision, calibration.average_precision_bounds)),
    ]


def _bounded(value: float, bounds: tuple[float, float]) -> str:
    low, high = bounds
    return (
        number(value)
        if low == high or math.isnan(value)
        else f"{number(value)} ({number(low)} to {number(high)})"
    )


def _sweep(report: ReportView, document: Mapping[str, Any]) -> str:
    picture = sweep_picture(report, document) if "sweep" in document else None
    return "" if picture is None else _section("Other parameters", _figure(*picture))


def _paired(report: ReportView, document: Mapping[str, Any]) -> str:
    if "paired" not in document:
        return ""
    paired = report.paired
    low, high = paired.interval(_LEVEL)
    rows = [
        ("mean difference", number(paired.mean, 9)),
        ("95 % interval, by rows", f"{number(low)} to {number(high)}"),
        ("standard error, by rows", number(paired.stderr)),
    ]
    pictures = []
    for noun, counts in (("rows", document["paired"]["rows"]), ("elements", document["paired"])):
        parts = [(name, counts[name]) for name in ("better", "worse", "equal", "undefined") if counts[name]]
        said = ", ".join(f"{count:,} {name}" for name, count in parts) or "none"
        pictures.append(_figure(shares(f"{noun} better and worse", _coloured(parts)), f"{noun}: {said}"))
    lists = document["paired"].get("top", {})
    tables = (
        _listed(f"{noun} that are {name}", lists[name][noun], _places(document, name, noun))
        for name in ("worse", "better")
        if name in lists
        for noun in ("rows", "elements")
    )
    return _section(
        "Against the baseline",
        table(("loss minus baseline", "value"), rows, caption="Below 0 where the model is better"),
        *pictures,
        *tables,
    )


def _coloured(parts: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """Return the parts in the order of the colours: better, worse, then the rest."""
    counts = dict(parts)
    rest = counts.get("equal", 0) + counts.get("undefined", 0)
    return [
        ("better", counts.get("better", 0)),
        ("worse", counts.get("worse", 0)),
        ("equal or undefined", rest),
    ]


def _top(_: ReportView, document: Mapping[str, Any]) -> str:
    if "top" not in document:
        return ""
    found = (
        _listed(f"{noun} of the greatest loss", document["top"][noun], _places(document, None, noun))
        for noun in ("rows", "elements")
    )
    return _section("Worst rows and elements", *found)


def _places(document: Mapping[str, Any], which: str | None, noun: str) -> Sequence[Any]:
    """Return the indexes of a list whose items have ids; they stand apart."""
    index = (document.get("run") or {}).get("top_index") or {}
    found: Sequence[Any] = ((index.get(which) or {}) if which else index).get(noun) or []
    return found


def _listed(title: str, items: Sequence[Mapping[str, Any]], places: Sequence[Any]) -> str:
    """Return a list of rows or elements as a table, its first lines shown."""
    if not items:
        return tag("p", text(f"{title}: none"))
    indexed = [
        item if "index" in item or place is None else {**item, "row": place}
        for item, place in zip(items, [*places, *[None] * len(items)], strict=False)
    ]
    names = list(indexed[0])
    head = ["row" if name == "index" else name.replace("_", " ") for name in names]
    rows = [[_cell(item.get(name)) for name in names] for item in indexed]
    title = title[:1].upper() + title[1:]
    first = table(head, rows[:_SHOWN], caption=title)
    if len(rows) <= _SHOWN:
        return first
    rest = table(head, rows[_SHOWN:], caption=f"{title}, from the {_SHOWN + 1}th on")
    return first + _details(f"{len(rows) - _SHOWN:,} more", rest)


def _cell(value: Any) -> str:  # noqa: ANN401 - a JSON value
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, float):
        return number(value)
    return "-" if value is None else str(value)


def _inputs(_: ReportView, document: Mapping[str, Any]) -> str:
    run = document.get("run") or {}
    shards = [shard for shard in run.get("inputs") or [] if isinstance(shard, Mapping)]
    names = ("version", "client_version", "kernel", "device", "request_id", "started", "ended")
    about = [(name, _shown(run[name])) for name in names if name in run]
    parts = [table(("run", "value"), about, caption="How it was made")] if about else []
    if shards:
        rows = [
            (_shown(shard.get("path")), _shown(shard.get("rows")), _shown(shard.get("sha256")))
            for shard in shards[:_LISTED]
        ]
        title = f"{counted(len(shards), 'shard')}" + (
            f", the first {_LISTED}" if len(shards) > _LISTED else ""
        )
        parts.append(table(("path", "rows", "SHA-256"), rows, caption=title))
    return _details("Inputs", *parts) if parts else ""


_PARTS: Final[Sequence[Callable[[ReportView, Mapping[str, Any]], str]]] = (
    _totals,
    _classes,
    _groups,
    _paired,
    _top,
    _histogram,
    _calibration,
    _sweep,
    _inputs,
)

"""Stage 6 of `lossd report` and `lossd merge`: the report as JSON, or a summary on a terminal."""

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lossd_client.cli.reporting.output import encoded
from lossd_client.cli.reporting.tables import headed, pairs, print_table, shortened
from lossd_client.report import Report
from lossd_client.report._drawing.calibration import calibration_figures
from lossd_client.report._drawing.markup import number, spanned, spread
from lossd_client.report._drawing.names import class_axis, class_name, element_words, is_by_row

_SHOWN: Final = 10
_LEVEL: Final = 0.95


def show(report: Report, notes: Sequence[str], *, as_json: bool, is_written: bool) -> None:
    """Print a report.

    Args:
        report: The report.
        notes: What a user should know.
        as_json: Whether JSON is asked for.
        is_written: Whether a file has it; else a pipe gets JSON.
    """
    if as_json or not (is_written or sys.stdout.isatty()):
        typer.echo(encoded(report), nl=False)
        _print_notes(notes)
        return
    # As wide as it needs: numbers that are cut off are of no use, and a pipe has no edge.
    console = Console(highlight=False, width=10_000)
    for place, table in enumerate(_tables(report, report.to_dict(), notes)):
        if place:
            console.print()
        print_table(console, table)


def _print_notes(notes: Sequence[str]) -> None:
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    for note in notes:
        console.print(Text(f"note: {note}"))


def _tables(report: Report, document: Mapping[str, Any], notes: Sequence[str]) -> Iterator[Table]:
    yield pairs([*_totals(report, document["totals"]), *(("note", note) for note in notes)])
    if "classes" in document:
        means = [(class_name(report, each.index), each.mean, each.count) for each in report.classes]
        yield _ranked(["class", "mean", "count"], means)
    if "groups" in document:
        rows = [
            (
                *map(str, each.id if isinstance(each.id, tuple) else (each.id,)),
                each.mean,
                each.stderr,
                each.rows,
            )
            for each in report.groups.values()
        ]
        yield _ranked([*document["groups"]["names"], "mean", "stderr", "rows"], rows)
    if "paired" in document:
        yield pairs(_paired(report, document["paired"]))
    if "calibration" in document:
        yield pairs([("calibration", ""), *calibration_figures(report.calibration)])
    for name in ("elements",) if is_by_row(report) else ("rows", "elements"):
        if document.get("top", {}).get(name):
            noun = element_words(report)[1] if name == "elements" else name
            yield _worst(noun, _with_names(report, document["top"][name]))


def _totals(report: Report, totals: Mapping[str, Any]) -> list[tuple[str, str]]:
    kept = report.rows_kept
    params = "".join(f" {name}={value}" for name, value in totals["params"].items() if value is not None)
    return [
        ("mean", repr(report.mean)),
        ("stderr", f"{spread(report.stderr, kept)} (by row)"),
        ("95 % interval", spanned(report.interval(_LEVEL), kept)),
        ("sum", repr(report.sum)),
        ("rows", _with_dropped(totals["rows"], totals["rows_dropped"])),
        *_elements(report, totals),
        ("positives", repr(report.positives)),
        *((f"{name} losses", str(totals[name])) for name in ("nan", "infinite") if totals[name]),
        ("loss name", f"{totals['loss']}{params}"),
    ]


def _elements(report: Report, totals: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return how many have a loss, unless these are the rows."""
    if is_by_row(report):
        return []
    return [(element_words(report)[1], _with_dropped(totals["elements"], totals["dropped"]))]


def _with_dropped(count: int, dropped: int) -> str:
    return f"{count} ({dropped} dropped)" if dropped else str(count)


def _paired(report: Report, section: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows, kept = section["rows"], report.rows_kept
    return [
        ("loss minus baseline", number(report.paired.mean)),
        ("stderr", f"{spread(report.paired.stderr, kept)} (by row)"),
        ("95 % interval", spanned(report.paired.interval(_LEVEL), kept)),
        ("rows", f"{rows['better']} better, {rows['worse']} worse, {rows['equal']} equal"),
    ]


def _ranked(head: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> Table:
    """Return a table of the greatest means first, which is the first column of numbers."""
    mean = head.index("mean")
    ordered = sorted(rows, key=lambda row: (not math.isnan(row[mean]), -row[mean]))
    table = headed(head, mean)
    for row in ordered[:_SHOWN]:
        table.add_row(*map(shortened, row[:mean]), *map(number, row[mean:]))
    if len(ordered) > _SHOWN:
        table.caption = f"and {len(ordered) - _SHOWN} more"
    return table


def _with_names(report: Report, items: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the worst elements with the names of their classes, where these have names."""
    found = []
    for item in items:
        place = next((name for name in ("position", "index") if isinstance(item.get(name), list)), None)
        if place is None or not report.class_names:
            found.append(item)
            continue
        before = 1 if place == "index" else 0  # the row
        at = list(item[place])
        axis = class_axis(report, at[before:])
        if axis is not None:
            at[before + axis] = class_name(report, at[before + axis])
        found.append({**item, place: at, **_named_classes(report, item)})
    return found


def _named_classes(report: Report, item: Mapping[str, Any]) -> dict[str, str]:
    """Return the classes that a row of classes is of, by their names."""
    if "predicted" not in item and "confidence" not in item:
        return {}
    return {name: class_name(report, int(item[name])) for name in ("predicted", "target") if name in item}


def _worst(noun: str, items: Sequence[Mapping[str, Any]]) -> Table:
    names = list(items[0])
    table = headed([f"worst {noun}", *names], 1)
    for place, item in enumerate(items[:_SHOWN], 1):
        table.add_row(str(place), *(shortened(_cell(item[name])) for name in names))
    if len(items) > _SHOWN:
        table.caption = f"and {len(items) - _SHOWN} more"
    return table


def _cell(value: Any) -> str:  # noqa: ANN401 - a JSON value
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return number(value) if isinstance(value, float) else str(value)

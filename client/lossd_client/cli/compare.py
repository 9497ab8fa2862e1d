"""`lossd compare`: whether one model's loss is greater than another's, by how much, and how sure that is.

Of saved reports it reads the figures. Files of both models are scored first, by the stages of `lossd report`
with the other model as the baseline, in one pass: `files_scored.py`. `lossd_client.compare` judges;
`comparing/notes.py` adds what names say, `comparing/output.py` writes, and `comparing/summary.py` prints.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import typer

from lossd_client.cli.comparing.notes import mistaken_names
from lossd_client.cli.comparing.options import CompareOptions
from lossd_client.cli.comparing.output import check_all, finish
from lossd_client.cli.exits import Exit, client_errors
from lossd_client.cli.files.errors import BadFile
from lossd_client.cli.files.location import Location
from lossd_client.cli.files_scored import files_scored
from lossd_client.cli.inputs.arguments import STDIN, files_of, read_shards
from lossd_client.cli.inputs.baselines import BaselineRule
from lossd_client.cli.inputs.selection import Selection
from lossd_client.cli.options import takes
from lossd_client.cli.part_file import open_parts
from lossd_client.cli.reporting.output import put, write
from lossd_client.cli.reporting.saved import read_report, readable
from lossd_client.comparison import Comparison
from lossd_client.comparison import compare as compare_reports
from lossd_client.comparison._output.side_by_side import comparison_page
from lossd_client.report import Report

_IN_REPORT = "the other model in the report"


@takes(CompareOptions)
def compare(options: CompareOptions) -> None:
    """Judge whether a new model's mean loss has grown by more than a bound, with its confidence interval.

    Takes two saved reports, a report of both models, or both models' files, which are scored in one pass.
    Ends with 4 if the new model has regressed: the interval lies wholly above the bound. What is undecided,
    as the interval holds the bound, is said, and no failure without --strict.
    """
    with client_errors():
        options.check()
        check_all(options)
        are_reports = options.are_reports
    comparison = _of_reports(options) if are_reports else _of_files(options)
    if comparison.regressed or (options.strict and comparison.verdict == "undecided"):
        raise typer.Exit(Exit.REGRESSED)


def _of_reports(options: CompareOptions) -> Comparison:
    """Compare saved reports."""
    paths = [Path(text) for text in options.shards]
    with client_errors():
        reports = [_read(text) for text in options.shards]
        for option, written in _written(options):
            for path in paths:
                if written.exists() and written.samefile(path):
                    raise BadFile(f"{option} {written} is one of the reports: name another file")
        for each in reports:
            options.refuse_other_loss(each.loss_name)
        new, baseline = reports[0], reports[1] if len(reports) > 1 else None
        with open_parts(options.html, options.junit) as [html, junit], readable(" and ".join(options.shards)):
            found = _judged(options, new, baseline, options.by or [], options.clusters or [])
            found = _noted(found, mistaken_names(options.new, options.other))
            names = options.new, options.other or _IN_REPORT
            if html is not None:
                put(html, comparison_page(found, names, new, baseline).encode())
            finish(found, names, options, junit)
            return found


def _written(options: CompareOptions) -> Iterator[tuple[str, Path]]:
    """Yield the options of files that are written beside saved reports, with their files."""
    named = {"--html": options.html, "--markdown": options.markdown, "--junit": options.junit}
    yield from ((option, path) for option, path in named.items() if path is not None)


def _of_files(options: CompareOptions) -> Comparison:
    """Score the files of both models in one pass, and compare."""
    asked = options.of_files()
    if asked.baseline is None and (asked.baseline_column, asked.baseline_columns) == (None, None):
        raise typer.BadParameter(
            f"{options.new} is of one model: name the baseline, as in lossd compare NEW BASELINE TARGETS, or "
            "by --baseline COLUMN in a table of both"
        )
    is_file = len(options.shards) > 1 and options.baseline is None
    rule = BaselineRule("BASELINE" if is_file else "--baseline", is_file=is_file, is_joined=True)
    targets = "--targets" if options.targets is not None else "TARGETS"

    def select(spool: Path | None) -> Selection:
        entries = read_shards(asked.shards, asked.targets, spool, targets)
        return replace(Selection.of_report(asked, entries), baseline=rule, clusters=asked.clusters or [])

    outputs = {"--out": options.out, "--html": options.html, "--junit": options.junit}
    with files_scored(asked, select, outputs, {"--markdown": options.markdown}) as made:
        out, html, junit = made.parts
        by = made.groups[: len(options.by or [])]
        called = dict(zip([*(options.by or []), *(asked.clusters or [])], made.groups, strict=True))
        clusters = [called[text] for text in options.clusters or []]
        found = _judged(options, made.report, None, by, clusters)
        other = options.other or asked.baseline_column or asked.baseline_columns or ""
        found = _noted(found, (*made.notes, *mistaken_names(options.new, other)))
        names = "standard input" if options.new == STDIN else options.new, other
        page = None if html is None else comparison_page(found, names, made.report, None)
        write(made.report, out, html, page)
        finish(found, names, options, junit)
        return found


def _read(text: str) -> Report:
    if Location(text).is_url:
        raise BadFile(f"{text}: a saved report is read from this machine: download it, and name the file")
    if (found := files_of(text)) is not None:
        raise BadFile(f"{text} stands for {len(found)} reports: make one of them by lossd merge")
    if not Path(text).is_file():
        raise BadFile(f"there is no file {text}")
    return read_report(Path(text))


def _judged(
    options: CompareOptions, new: Report, baseline: Report | None, by: Sequence[str], clusters: Sequence[str]
) -> Comparison:
    bound, confidence = options.max_regression, options.confidence
    found = compare_reports(
        new, baseline, by=by, clusters=clusters, max_regression=bound, confidence=confidence
    )
    if not found.whole.rows:
        raise BadFile(f"{options.new} has no rows that count: nothing can be compared")
    return found


def _noted(comparison: Comparison, notes: Iterable[str]) -> Comparison:
    """Return a comparison with further notes, which come first."""
    return replace(comparison, notes=tuple(dict.fromkeys([*notes, *comparison.notes])))

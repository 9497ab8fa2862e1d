"""`lossd merge`: several reports as one."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from lossd_client.cli.exits import Exit, client_errors, fail, leave_at_signals
from lossd_client.cli.files.errors import BadFile
from lossd_client.cli.inputs.arguments import files_of
from lossd_client.cli.part_file import open_parts, part_of
from lossd_client.cli.reporting.output import check_outputs, write
from lossd_client.cli.reporting.saved import read_report, readable
from lossd_client.cli.reporting.summary import show
from lossd_client.report import Report, ReportMerger
from lossd_client.report._merging.repeats import Repeats
from lossd_client.report._merging.row_numbers import RowNumbers


def merge(
    reports: Annotated[
        list[str],
        typer.Argument(
            metavar="REPORT", help="Reports, .json or .json.gz, and globs of them.", show_default=False
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the report here: a .json or a .json.gz.", dir_okay=False),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write it as a page, in one file, here.", dir_okay=False),
    ] = None,
    expect_rows: Annotated[
        int | None, typer.Option(metavar="N", help="Fail if all reports together have not N rows.", min=0)
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the report as one JSON object and nothing else.")
    ] = False,
) -> None:
    """Merge reports over different rows into the report over all of them, to the last bit.

    Their parameters must be the same. A shard that occurs twice, by the digests in the reports, is refused.
    """
    check_outputs(out, html)
    with client_errors(), leave_at_signals(*(part_of(path) for path in (out, html) if path is not None)):
        paths = _paths(reports)
        for option, path in (("--out", out), ("--html", html)):
            if path is not None and any(path.exists() and path.samefile(one) for one in paths):
                raise BadFile(f"{option} {path} is one of the reports: name another file")
        with open_parts(out, html) as (out_file, html_file), readable("the reports"):
            merger = _Merging()
            for path in paths:
                merger.add(path)
            merged = merger.result()
            if expect_rows is not None and merged.rows != expect_rows:
                fail(
                    f"the reports have {merged.rows} rows, and --expect-rows says {expect_rows}", Exit.REFUSED
                )
            write(merged, out_file, html_file)
            show(merged, list(merger.notes()), as_json=as_json, is_written=bool(out or html))


def _paths(texts: Sequence[str]) -> list[Path]:
    """Return the files of reports, each there once.

    Raises:
        BadFile: There is no such file, or one is named twice.
    """
    paths: list[Path] = []
    for text in texts:
        found = files_of(text)
        if found == []:
            raise BadFile(f"{text} stands for no file")
        paths += map(Path, [text] if found is None else found)
    for place, path in enumerate(paths):
        if not path.is_file():
            raise BadFile(f"there is no file {path}")
        if any(path.samefile(other) for other in paths[:place]):
            raise BadFile(f"{path} is given twice: name each report once")
    return paths


class _Merging:
    """Merges reports from files, and knows whose rows they have."""

    def __init__(self) -> None:
        self._merger = ReportMerger()
        self._repeats = Repeats()
        self._unnamed: list[Path] = []
        self._row_numbers = RowNumbers()

    def add(self, path: Path) -> None:
        """Add the report of a file.

        Raises:
            BadFile: It is no report, or unlike those before, or has a shard of one of them.
        """
        with readable(str(path)):
            report = read_report(path)
            document = report.to_dict()
            self._refuse_repeated(path, document)
            if not (document.get("run") or {}).get("inputs"):
                self._unnamed.append(path)
            self._merger.add(report)
            self._row_numbers.add(document, str(path))

    def _refuse_repeated(self, path: Path, document: dict[str, Any]) -> None:
        try:
            self._repeats.add(document, str(path))
        except ValueError as error:  # it names the file
            raise BadFile(str(error)) from error

    def notes(self) -> Iterator[str]:
        """Yield what a user should know."""
        if self._unnamed:
            more = f" and {len(self._unnamed) - 1} more" if len(self._unnamed) > 1 else ""
            what = f"{self._unnamed[0]}{more}: without digests of inputs"
            yield f"{what}, so that rows that are there twice cannot be seen"
        if self._row_numbers.shared:
            remedy = "make reports with --first-row or --ids for lists that tell rows apart"
            yield f"{self._row_numbers.shared}: {remedy}"

    def result(self) -> Report:
        """Return the report of all."""
        return self._merger.result()

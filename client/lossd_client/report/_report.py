"""A report: what a loss is made of."""

import copy
import gzip
import importlib
import json
import os
import warnings
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, Self

from lossd_client.report._class_names import refuse_other_names
from lossd_client.report._merging.documents import DocumentMerger
from lossd_client.report._merging.layout import refuse_incomplete
from lossd_client.report._tables import columns_of
from lossd_client.report._view import ReportView

_GZIP: Final = b"\x1f\x8b"  # what such files begin with


class Report(ReportView):
    """What a loss is made of, in figures that add up exactly.

    A section that is not there raises a `LookupError` that says how to ask for it; `sections` has those that
    are. Two reports are equal if their sections are, whatever run they are from.

    Args:
        document: A document of the schema "lossd.report/1", as parsed from JSON. It is not copied.

    Raises:
        ValueError: It is no such document.
    """

    @classmethod
    def merge(cls, reports: Iterable["Report"]) -> "Report":
        """Merge reports over different rows into the report over all of them.

        It is the same, to the last bit, in whatever order and groups they come. Reports of a million rows and
        of ten merge at the same cost.

        Args:
            reports: Any iterable, read once.

        Raises:
            ValueError: There are none, or they differ in loss, parameters, sections or kinds of ids; the
                message names the difference. Or one is there twice, by its request id, or by the digests of
                the files that it is of.

        Warns:
            UserWarning: Lists of the greatest losses name rows by number, and two reports share one.
        """
        merger = ReportMerger()
        for report in reports:
            merger.add(report)
        for note in merger.notes:
            warnings.warn(note, stacklevel=2)
        return merger.result()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Report):
            return NotImplemented
        mine, its = ({**report._document, "run": None} for report in (self, other))
        return mine == its

    __hash__ = None  # type: ignore[assignment] # as of dicts

    def to_dict(self) -> dict[str, Any]:
        """Return the document; changes to it do not change the report."""
        return copy.deepcopy(dict(self._document))

    def with_class_names(self, names: Iterable[str] | None) -> Self:
        """Return the same report, whose pages, tables and summaries call the classes by these names.

        Args:
            names: A name for each class, in the order of the class axis. None takes names away.

        Raises:
            ValueError: There are not as many as classes, or one is no text.
        """
        run = {name: value for name, value in self.run.items() if name != "class_names"}
        if names is not None:
            run["class_names"] = list(names)
        document = {**self._document, "run": run}
        refuse_other_names(document)
        return type(self)(document)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the document to a file, as JSON; compressed if its name ends with .gz."""
        text = json.dumps(self._document, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        data = text.encode() + b"\n"
        Path(path).write_bytes(
            gzip.compress(data, compresslevel=6, mtime=0) if Path(path).suffix == ".gz" else data
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a file that `save` wrote.

        Raises:
            ValueError: The file is damaged, or holds no report; the message has its name.
            OSError: It cannot be read.
        """
        data = Path(path).read_bytes()
        try:
            document = json.loads(gzip.decompress(data) if data.startswith(_GZIP) else data)
            refuse_incomplete(document)
            return cls(document)
        except (EOFError, OSError, RecursionError, ValueError, zlib.error) as error:
            raise ValueError(f"{os.fspath(path)} is no report, or damaged: {error}") from error

    def to_pandas(self, section: str = "means") -> Any:  # noqa: ANN401 - a data frame of what may not be installed
        """Return a table of the report as a pandas data frame.

        Args:
            section: "means" has a row for the whole, each class and each group: its kind ("all", "class" or
                "group"), id as text, rows, count, sum, mean and stderr, missing where there is none.
                The others have all columns of one section: "classes", "groups", "top_rows", "top_elements",
                "histogram", "row_histogram", "reliability", "thresholds".

        Raises:
            ValueError: There is no such table.
            LookupError: The report has no such section.
            ImportError: pandas is not installed.
        """
        return _library("pandas").DataFrame(columns_of(self, section))

    def to_polars(self, section: str = "means") -> Any:  # noqa: ANN401
        """Return a table of the report as a polars data frame; see `to_pandas`."""
        return _library("polars").DataFrame(columns_of(self, section), strict=False)

    def _repr_html_(self) -> str:
        from lossd_client.report._drawing.html import report_html

        return report_html(self)

    def __repr__(self) -> str:
        low, high = self.interval()
        return (
            f"<Report {self.loss_name}: mean={self.mean!r}, 95% from {low:.6g} to {high:.6g}, "
            f"rows={self.rows}, count={self.count}, sections={', '.join(self.sections)}>"
        )


class ReportMerger:
    """Merges reports one by one; see `Report.merge`."""

    def __init__(self) -> None:
        self._documents = DocumentMerger()

    def add(self, report: Report) -> None:
        """Add one report.

        Raises:
            ValueError: It is unlike those before it, or repeats one; the message says how. Then it is left
                out.
        """
        self._documents.add(report._document)

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on reports that may be merged and whose lists may surprise; mostly none."""
        shared = self._documents.row_numbers.shared
        remedy = "make reports with first_row= or ids= for lists that tell rows apart"
        return () if shared is None else (f"{shared}: {remedy}",)

    def result(self) -> Report:
        """Return the report of all that was added.

        Raises:
            ValueError: That is nothing.
        """
        return Report(self._documents.result())


def _library(name: str) -> Any:  # noqa: ANN401 - a module
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f"to_{name}() needs {name}, which is not installed: pip install {name}") from error

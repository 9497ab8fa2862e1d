"""A report: what a loss is made of."""

import copy
import gzip
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from lossd_client.report._layout import SCHEMA, SECTIONS
from lossd_client.report._merging import DocumentMerger


class Report:
    """What a loss is made of, in figures that add up exactly.

    Args:
        document: A document of the schema "lossd.report/1", as parsed from JSON. It is not copied.

    Raises:
        ValueError: It is no such document.
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        schema = document.get("schema")
        if schema != SCHEMA:
            raise ValueError(f"no report: its schema is {schema!r}, and not {SCHEMA!r}")
        if not isinstance(document.get("totals"), Mapping):
            raise ValueError("no report: it has no section totals")
        self._document = document

    @property
    def sections(self) -> tuple[str, ...]:
        """The sections that it has."""
        return tuple(name for name in SECTIONS if name in self._document)

    @classmethod
    def merge(cls, reports: Iterable["Report"]) -> "Report":
        """Merge reports over different rows into the report over all of them."""
        merger = ReportMerger()
        for report in reports:
            merger.add(report)
        return merger.result()

    def to_dict(self) -> dict[str, Any]:
        """Return the document; changes to it do not change the report."""
        return copy.deepcopy(dict(self._document))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the document to a file, as JSON; compressed if its name ends with .gz."""
        text = json.dumps(self._document, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        data = text.encode() + b"\n"
        Path(path).write_bytes(gzip.compress(data, mtime=0) if Path(path).suffix == ".gz" else data)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a file that `save` wrote."""
        data = Path(path).read_bytes()
        return cls(json.loads(gzip.decompress(data) if Path(path).suffix == ".gz" else data))


class ReportMerger:
    """Merges reports one by one; see `Report.merge`."""

    def __init__(self) -> None:
        self._documents = DocumentMerger()

    def add(self, report: Report) -> None:
        """Add one report.

        Raises:
            ValueError: It is unlike those before it; the message names the difference. Then it is left out.
        """
        self._documents.add(report._document)

    def result(self) -> Report:
        """Return the report of all that was added.

        Raises:
            ValueError: That is nothing.
        """
        return Report(self._documents.result())

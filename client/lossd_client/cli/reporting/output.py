"""Stage 6 of `lossd report`: the files of --out and --html."""

import gzip
import json
from pathlib import Path
from typing import Final

import typer

from lossd_client.cli.part_file import PartFile, is_special, writing
from lossd_client.report import Report
from lossd_client.report._drawing.html import report_page

_REPORTS: Final = (".json", ".json.gz")
_PAGES: Final = (".html", ".htm")


def check_outputs(out: Path | None, html: Path | None) -> None:
    """Refuse names that do not say what is written.

    Raises:
        BadParameter: There is one, or both files are the same.
    """
    for option, path, suffixes in (("--out", out, _REPORTS), ("--html", html, _PAGES)):
        if path is not None and not is_special(path) and not path.name.lower().endswith(suffixes):
            raise typer.BadParameter(f"{option} {path}: its name must end in {' or '.join(suffixes)}")


def encoded(report: Report, *, is_compressed: bool = False) -> bytes:
    """Return a report as the bytes of a file."""
    text = json.dumps(report.to_dict(), separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    data = text.encode() + b"\n"
    return gzip.compress(data, mtime=0) if is_compressed else data


def write(report: Report, out: PartFile | None, html: PartFile | None, page: str | None = None) -> None:
    """Write a report, and its page, or another one, and give the files their names."""
    if out is not None:
        _write(out, encoded(report, is_compressed=out.path.name.lower().endswith(".gz")))
    if html is not None:
        _write(html, (page or report_page(report)).encode())
    for file in (out, html):  # not one without the other
        if file is not None:
            with writing(file.path):
                file.publish()


def put(file: PartFile, data: bytes) -> None:
    """Write a file, and give it its name."""
    _write(file, data)
    with writing(file.path):
        file.publish()


def _write(file: PartFile, data: bytes) -> None:
    with writing(file.path):
        file.write(data)

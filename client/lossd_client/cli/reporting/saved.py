"""Saved reports: files that are read again."""

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from lossd_client.cli.files.errors import BadFile
from lossd_client.cli.files.location import reason
from lossd_client.report import Report
from lossd_client.report._merging.layout import SCHEMA

_DAMAGED: Final = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
_GZIP: Final = b"\x1f\x8b"


@contextmanager
def readable(what: str) -> Iterator[None]:
    """Turn what a damaged report raises into a message.

    Args:
        what: What the message calls it.

    Raises:
        BadFile: It is damaged, or cannot be used.
    """
    try:
        yield
    except _DAMAGED as error:
        text = str(error) if isinstance(error, ValueError) else f"damaged ({error!r})"
        raise BadFile(f"{what}: {text}") from error


def read_report(path: Path) -> Report:
    """Read a report.

    Raises:
        BadFile: It is none.
    """
    try:
        return Report.load(path)
    except ValueError as error:  # it names the file
        raise BadFile(f"{error}{_remedy(path)}") from error
    except OSError as error:
        raise BadFile(f"{path} cannot be read: {reason(error)}") from error


def _remedy(path: Path) -> str:
    """Return what to do with a file that is no report."""
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if data.startswith(_GZIP) else data).decode()
    except (EOFError, OSError, UnicodeDecodeError, zlib.error):
        return ""
    found = _parsed(text)
    if isinstance(found, Mapping) and found.get("schema") not in (None, SCHEMA):
        return f"; its schema is {found['schema']!r}, and that of reports {SCHEMA!r}"
    if isinstance(found, Mapping) and "loss_name" in found:
        return "; it is an answer of lossd score: make a report by lossd report"
    first, _, rest = text.partition("\n")
    if isinstance(_parsed(first), Mapping) and isinstance(_parsed(rest.partition("\n")[0]), Mapping):
        return "; it has an object a line: data of this form is named .jsonl"
    return ""


def _parsed(text: str) -> Any:  # noqa: ANN401 - any JSON, or None
    try:
        return json.loads(text)
    except (RecursionError, ValueError):
        return None

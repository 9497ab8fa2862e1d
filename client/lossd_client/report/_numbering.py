"""The numbers of a report's rows, which its lists name where the rows have no ids."""

from collections.abc import Mapping
from typing import Any

from lossd_client.report._json import Json
from lossd_client.report._merging.layout import Kind, leaves


def numbered_on(document: Mapping[str, Json], rows: int) -> dict[str, Json]:
    """Return a report whose rows follow others.

    Args:
        document: The report.
        rows: The number of rows before them.
    """
    if not rows:
        return dict(document)
    found: dict[str, Any] = dict(document)
    for path, kind, entries in leaves(document):
        if kind is Kind.TOP:
            _put(found, path, [_moved(entry, rows) for entry in entries])
    run = dict(document.get("run") or {})
    if "first_row" in run:
        run["first_row"] += rows
    if "top_index" in run:
        run["top_index"] = _all_after(run["top_index"], rows)
    return found | ({"run": run} if "run" in document else {})


def _put(document: dict[str, Any], path: tuple[str, ...], value: object) -> None:
    """Put a value at a place; what is above that place is copied."""
    for name in path[:-1]:
        document[name] = dict(document[name])
        document = document[name]
    document[path[-1]] = value


def _moved(entry: Mapping[str, Json], rows: int) -> Mapping[str, Json]:
    return {**entry, "index": _after(entry["index"], rows)} if "index" in entry else entry


def _after(index: Any, rows: int) -> Any:  # noqa: ANN401 - a row's number, or an element's place
    return [index[0] + rows, *index[1:]] if isinstance(index, list) else index + rows


def _all_after(lists: Any, rows: int) -> Any:  # noqa: ANN401 - lists by name, or a list
    if isinstance(lists, Mapping):
        return {name: _all_after(each, rows) for name, each in lists.items()}
    return None if lists is None else [_after(index, rows) for index in lists]

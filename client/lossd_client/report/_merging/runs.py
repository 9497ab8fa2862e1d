"""What reports were made from and by, as one run: times, requests, versions and files."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, TypeAlias

from lossd_client.report._json import Json

_TIMES: Final[Mapping[str, Callable[..., Any]]] = {"started": min, "ended": max}
_LISTS: Final = ("request_ids", "inputs")


def request_ids(run: Mapping[str, Json]) -> list[str]:
    """Return the ids of the requests that a run is of, as far as they are known."""
    one = run.get("request_id")
    return list(run.get("request_ids") or ([one] if one else []))


_Read: TypeAlias = tuple[dict[str, Json], dict[str, None], list[Json] | None]


class MergedRun:
    """The run of all reports that were added.

    It lasts from the earliest start to the latest end, and has all inputs, and the requests of all rows. Of
    the rest it has what is the same in all runs; null stands for what is not, and for a time that one lacks.
    """

    def __init__(self) -> None:
        self._run: dict[str, Json] | None = None
        self._request_ids: dict[str, None] = {}
        self._inputs: list[Json] | None = None

    def read(self, document: Mapping[str, Json]) -> _Read:
        """Return what `add` takes of a report.

        Raises:
            ValueError, TypeError, AttributeError: Its run is damaged.
        """
        run: Mapping[str, Json] = document.get("run") or {}
        its = {name: value for name, value in run.items() if name not in _LISTS}
        merged = its if self._run is None else _merged(self._run, its)
        ids = request_ids(run) if document["totals"]["rows"] else []
        inputs = list(run["inputs"] or ()) if "inputs" in run else None
        return merged, dict.fromkeys(ids), inputs

    def add(self, read: _Read) -> None:
        """Add what was read last."""
        self._run, ids, inputs = read
        self._request_ids |= ids
        if inputs is not None:
            self._inputs = [] if self._inputs is None else self._inputs
            self._inputs += inputs

    def result(self) -> dict[str, Json]:
        """Return the run of all."""
        found = dict(self._run or {})
        if self._request_ids:
            found["request_ids"] = list(self._request_ids)
        return found if self._inputs is None else {**found, "inputs": self._inputs}


def _merged(mine: Mapping[str, Json], its: Mapping[str, Json]) -> dict[str, Json]:
    run = {name: mine.get(name) if mine.get(name) == its.get(name) else None for name in {**mine, **its}}
    first_rows = [each["first_row"] for each in (mine, its) if each.get("first_row") is not None]
    if first_rows:
        run["first_row"] = min(first_rows)
    for name, chosen in _TIMES.items():
        times = [mine.get(name), its.get(name)]
        if None not in times:
            run[name] = chosen(times, key=datetime.fromisoformat)
    if "request_id" in run:
        run["request_id"] = None  # one id of two requests would look like one request
    if "top_index" in run:
        run["top_index"] = mine.get("top_index") or its.get("top_index")
    return run

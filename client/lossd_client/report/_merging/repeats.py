"""Rows that would count twice: reports and shards that are merged already."""

from collections.abc import Mapping, Sequence
from typing import Any

from lossd_client.report._json import Json
from lossd_client.report._merging.runs import request_ids


class Repeats:
    """Refuses what was merged already, by its requests or by the digests of its files."""

    def __init__(self) -> None:
        self._requests: dict[object, str] = {}  # of reports of one request each
        self._ids: dict[str, tuple[str, bool]] = {}  # whose report, and whether it is of one request
        self._shards: dict[object, str] = {}

    def add(self, document: Mapping[str, Json], name: str) -> None:
        """Keep what tells the rows of a document from those of others.

        Args:
            document: The document.
            name: What messages call it.

        Raises:
            ValueError: One before it has the rows of one of its requests, or a shard of the same digests.
                Then nothing is kept of it.
        """
        run = document.get("run") or {}
        request, ids = _request_of(document), request_ids(run) if document["totals"]["rows"] else []
        shards = dict[object, str]()
        for shard in run.get("inputs") or ():
            key, here = identity(shard), f"{called(shard)} of {name}"
            other = self._shards.get(key) or shards.get(key)
            if other is not None:
                raise ValueError(
                    f"{here} is the same as {other}, by its SHA-256: its rows would count twice; "
                    "leave out the report that repeats it"
                )
            if key is not None:
                shards[key] = here
        self._refuse_request(request, ids, name)
        self._shards |= shards
        self._ids |= dict.fromkeys(ids, (name, request is not None))
        if request is not None:
            self._requests[request] = name

    def _refuse_request(self, request: object, ids: Sequence[str], name: str) -> None:
        """Refuse a report with rows of a request that was merged already.

        Callers may send several requests under one id. As long as each has a report of its own, rows and sums
        tell these apart.
        """
        if request is not None and request in self._requests:
            raise ValueError(
                f"{name} is the same as {self._requests[request]}, by its request id, {ids[0]}: its rows "
                "would count twice; leave one of them out"
            )
        for each in ids:
            other, is_one = self._ids.get(each, ("", True))
            if other and not (is_one and request is not None):
                what = f"{name} and {other} both have the rows of request {each}, which would count twice"
                raise ValueError(
                    f"{what}: leave out the report that repeats them; if several requests were sent under "
                    "that id, merge their own reports"
                )


def _request_of(document: Mapping[str, Json]) -> object:
    """Return what tells a report of one request from all others; None if it has no rows, or no request."""
    run, totals = document.get("run") or {}, document["totals"]
    if not run.get("request_id") or not totals["rows"]:
        return None
    return run["request_id"], run.get("first_row"), totals["rows"], tuple(totals["sum_terms"])


def identity(shard: Mapping[str, Any]) -> object:
    """Return what two shards have in common that hold the same rows; None without rows or a digest."""
    if not shard.get("rows", 1) or not shard.get("sha256"):
        return None
    targets, columns = shard.get("targets") or {}, shard.get("columns") or {}
    used = [repr(columns.get(name)) for name in ("logits", "probabilities", "targets")]
    return (shard.get("sha256"), targets.get("sha256"), *used)


def called(shard: Mapping[str, Any]) -> str:
    """Return the files of a shard for a message."""
    targets = shard.get("targets") or {}
    return f"{shard.get('path')} with {targets['path']}" if "path" in targets else str(shard.get("path"))

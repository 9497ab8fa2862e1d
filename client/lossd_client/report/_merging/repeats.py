"""Rows that would count twice: reports and shards that are merged already."""

from collections.abc import Mapping
from typing import Any

from lossd_client.report._json import Json


class Repeats:
    """Refuses what was merged already, by its request or by the digests of its files."""

    def __init__(self) -> None:
        self._requests: dict[object, str] = {}
        self._shards: dict[object, str] = {}

    def add(self, document: Mapping[str, Json], name: str) -> None:
        """Keep what tells the rows of a document from those of others.

        Args:
            document: The document.
            name: What messages call it.

        Raises:
            ValueError: One before it is of the same request and rows, or has a shard of the same digests.
                Then nothing is kept of it.
        """
        request, shards = _request_of(document), dict[object, str]()
        if request is not None and request in self._requests:
            raise ValueError(
                f"{name} is the same as {self._requests[request]}, by its request id, "
                f"{document['run']['request_id']}: its rows would count twice; leave one of them out"
            )
        for shard in (document.get("run") or {}).get("inputs") or ():
            key, here = identity(shard), f"{called(shard)} of {name}"
            other = self._shards.get(key) or shards.get(key)
            if other is not None:
                raise ValueError(
                    f"{here} is the same as {other}, by its SHA-256: its rows would count twice; "
                    "leave out the report that repeats it"
                )
            if key is not None:
                shards[key] = here
        self._shards |= shards
        if request is not None:
            self._requests[request] = name


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

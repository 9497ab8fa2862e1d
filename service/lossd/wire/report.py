"""The report of an answer."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any, cast

from lossd.types import LossResult
from lossd.wire.json.writing import write_long_value


def write_report(result: LossResult, *, request_id: str, version: str) -> Iterator[bytes]:
    """Write a result's report as a JSON object, in pieces of bounded length, each written when asked for.

    Args:
        result: The result, with a report.
        request_id: The request's id, which the logs have too.
        version: The service's version.
    """
    assert result.report is not None
    run = {
        "version": version,
        "kernel": result.kernel,
        "device": result.device,
        "request_id": request_id,
        **cast("Mapping[str, object]", result.report.get("run", {})),
    }
    return write_long_value({**result.report, "run": run})


def report_schema() -> dict[str, Any]:
    """Return the JSON Schema of a report."""
    text = (resources.files("lossd.wire") / "report.schema.json").read_text()
    found: dict[str, Any] = json.loads(text)
    return found

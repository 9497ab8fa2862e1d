"""Requests as tables and scorers, and tables cut and shuffled."""

from __future__ import annotations

import io
import json
from itertools import pairwise
from typing import Any, Final

import httpx
import numpy as np
import pyarrow as pa

from contract.report_requests import CASES, arrow_stream, carries, in_query, params_of
from lossd.batch import Partial, Scorer
from report_reference import Request

ARROW: Final = "application/vnd.apache.arrow.stream"
REQUESTS: Final = {name: request for name, request in CASES.items() if carries("arrow", request)}


def table_of(request: Request) -> pa.Table:
    """A request's tensors as a table of somebody else: groups and ids have names of their own."""
    table = pa.ipc.open_stream(arrow_stream(request)).read_all()
    return table.rename_columns(
        [name.replace("group.", "").replace("ids", "image") for name in table.schema.names]
    )


def scorer_of(request: Request) -> Scorer:
    """What scores it."""
    params = params_of(request)
    params.pop("group_names", None)
    sections = params.pop("report").split(",")
    return Scorer(
        request.loss,
        sections=sections,
        by=tuple(request.groups or ()),
        ids=None if request.ids is None else "image",
        **params,
    )


def asked(client: httpx.Client, request: Request) -> dict[str, Any]:
    """A server's answer to all rows."""
    params = params_of(request)
    params.pop("group_names", None)
    answer = client.post(
        f"/{request.loss}",
        params=in_query(params),
        content=arrow_stream(request),
        headers={"content-type": ARROW},
    )
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def cut(table: pa.Table, rng: np.random.Generator) -> list[pa.Table]:
    """A table in blocks of any size, some of them empty."""
    stops = np.sort(rng.integers(0, table.num_rows + 1, rng.integers(1, 9)))
    edges = [0, *stops.tolist(), table.num_rows]
    return [table.slice(start, stop - start) for start, stop in pairwise(edges)]


def sections_of(partial: Partial) -> dict[str, Any]:
    """The sections of a partial's report, as JSON has them."""
    assert partial.report is not None
    found: dict[str, Any] = json.loads(json.dumps(partial.report.to_dict()))
    del found["run"]
    return found


def stream_of(table: pa.Table) -> bytes:
    """A table as an Arrow stream."""
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=7)
    return sink.getvalue()

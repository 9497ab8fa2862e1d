"""Formats of bodies and answers: bytes to tensors, results to bytes.

`FORMATS` and `STREAMS` hold a reader for each media type of request bodies. A reader is fed the body in
chunks, finds the tensors in it, and returns them at the end, or raises a `RequestError`. `make_decoder`
decodes a Content-Encoding before that. `write_json` and `write_npy` write answers. `parse_query` reads the
parameters in a query. The Open Inference Protocol has its own reader and writer, since it has its own routes.
Nothing here imports sockets, an HTTP framework or torch.
"""

from __future__ import annotations

from lossd.wire.answer import (
    JsonAnswers,
    write_figures,
    write_json,
    write_json_chunks,
    write_npy,
    write_params,
)
from lossd.wire.content_coding import MOST_INFLATED, Decoder, make_decoder
from lossd.wire.inference.answer import write_inference
from lossd.wire.inference.body import InferenceReader
from lossd.wire.inference.body import arena_bytes as inference_arena_bytes
from lossd.wire.inference.data import nearest
from lossd.wire.inference.models import (
    Duration,
    ModelFigures,
    ModelInput,
    model_config,
    model_metadata,
    model_stats,
    server_metadata,
)
from lossd.wire.inference.objects import MODEL_VERSION
from lossd.wire.inference.request import RequestedOutput, read_index_request
from lossd.wire.json.document import read_in_place
from lossd.wire.json.writing import join_pieces
from lossd.wire.query import merge_params, parse_query
from lossd.wire.reader import (
    Batch,
    Chunk,
    Column,
    Columns,
    Event,
    Reader,
    StreamReader,
    StringRows,
    Strings,
)
from lossd.wire.registry import FORMATS, STREAMS, Format, StreamFormat
from lossd.wire.report import report_schema, write_report

__all__ = [
    "FORMATS",
    "MODEL_VERSION",
    "MOST_INFLATED",
    "STREAMS",
    "Batch",
    "Chunk",
    "Column",
    "Columns",
    "Decoder",
    "Duration",
    "Event",
    "Format",
    "InferenceReader",
    "JsonAnswers",
    "ModelFigures",
    "ModelInput",
    "Reader",
    "RequestedOutput",
    "StreamFormat",
    "StreamReader",
    "StringRows",
    "Strings",
    "inference_arena_bytes",
    "join_pieces",
    "make_decoder",
    "merge_params",
    "model_config",
    "model_metadata",
    "model_stats",
    "nearest",
    "parse_query",
    "read_in_place",
    "read_index_request",
    "report_schema",
    "server_metadata",
    "write_figures",
    "write_inference",
    "write_json",
    "write_json_chunks",
    "write_npy",
    "write_params",
    "write_report",
]

"""Bytes in, tensors out; results in, bytes out.

`FORMATS` and `STREAMS` have a reader for each media type of request bodies. A reader is fed the body as it
comes, notes where the tensors lie, and says at the end what it found, or raises the `RequestError` that says
what is wrong, where and what to do. `make_decoder` undoes a Content-Encoding before. `write_json` and
`write_npy` make the answers; `parse_query` reads the parameters that stand in a request's target. The Open
Inference Protocol has a reader and a writer of its own, as it has routes of its own. Nothing here knows
sockets, HTTP or torch.
"""

from __future__ import annotations

from lossd.wire.answer import (
    JsonAnswers,
    write_figures,
    write_json,
    write_json_pieces,
    write_npy,
    write_npy_header,
    write_params,
)
from lossd.wire.content_coding import MOST_INFLATED, Decoder, make_decoder
from lossd.wire.inference.body import (
    MODEL_VERSION,
    InferenceReader,
    RequestedOutput,
    nearest,
    read_index_request,
    write_inference,
)
from lossd.wire.inference.body import arena_bytes as inference_arena_bytes
from lossd.wire.inference.models import (
    Duration,
    ModelFigures,
    model_config,
    model_metadata,
    model_stats,
    server_metadata,
)
from lossd.wire.json.document import read_in_place
from lossd.wire.query import merge_params, parse_query
from lossd.wire.reader import (
    Batch,
    Column,
    Columns,
    Event,
    Piece,
    Reader,
    ReaderFactory,
    StreamReader,
    Values,
)
from lossd.wire.registry import FORMATS, STREAMS, Format, StreamFormat

__all__ = [
    "FORMATS",
    "MODEL_VERSION",
    "MOST_INFLATED",
    "STREAMS",
    "Batch",
    "Column",
    "Columns",
    "Decoder",
    "Duration",
    "Event",
    "Format",
    "InferenceReader",
    "JsonAnswers",
    "ModelFigures",
    "Piece",
    "Reader",
    "ReaderFactory",
    "RequestedOutput",
    "StreamFormat",
    "StreamReader",
    "Values",
    "inference_arena_bytes",
    "make_decoder",
    "merge_params",
    "model_config",
    "model_metadata",
    "model_stats",
    "nearest",
    "parse_query",
    "read_in_place",
    "read_index_request",
    "server_metadata",
    "write_figures",
    "write_inference",
    "write_json",
    "write_json_pieces",
    "write_npy",
    "write_npy_header",
    "write_params",
]

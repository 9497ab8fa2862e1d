"""Problem details (RFC 9457): the one place where a fault's code becomes a status."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from lossd.request import Fault
from lossd.teams import conceal_keys

_LONGEST_RETRY: Final = 60.0
_RETRY_SPREAD: Final = 1.5

MEDIA_TYPE: Final = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of problem.

    Attributes:
        status: Its HTTP status.
        title: What it is, in a few words, the same for every occurrence.
        retryable: Whether the same request may succeed later.
        retry_after: Seconds after which to try again, for the kinds that say so.
    """

    status: int
    title: str
    retryable: bool = False
    retry_after: int | None = None


KINDS: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        "bad_request": Kind(400, "Not an HTTP request that this server understands"),
        "malformed_json": Kind(400, "The JSON cannot be read"),
        "malformed_npy": Kind(400, "A .npy file cannot be read"),
        "malformed_npz": Kind(400, "The .npz file cannot be read"),
        "malformed_arrow": Kind(400, "The Arrow stream cannot be read"),
        "malformed_multipart": Kind(400, "The multipart body cannot be read"),
        "truncated_body": Kind(400, "The body ends too early"),
        "trailing_bytes": Kind(400, "The body goes on after its end"),
        "unauthorized": Kind(401, "A valid key is needed"),
        "forbidden": Kind(403, "This team may not use the server"),
        "not_found": Kind(404, "There is no such route"),
        "method_not_allowed": Kind(405, "The route does not take this method"),
        "not_acceptable": Kind(406, "The answer is not to be had in that form"),
        "upload_too_slow": Kind(408, "The request came too slowly", retryable=True),
        "body_too_large": Kind(413, "The body is over the limit"),
        "expanded_too_large": Kind(413, "The body expands beyond the limit"),
        "output_too_large": Kind(413, "The answer would be over the limit"),
        "unsupported_media_type": Kind(415, "Bodies of this type are not read"),
        "dtype_not_allowed": Kind(415, "A tensor's elements have the wrong type"),
        "unsupported_encoding": Kind(415, "Bodies in this encoding are not read"),
        "shape_mismatch": Kind(422, "The tensors' shapes do not go together"),
        "bad_shape": Kind(422, "A tensor's shape is not allowed"),
        "target_out_of_range": Kind(422, "A target is outside [0, 1]"),
        "probability_out_of_range": Kind(422, "A probability is outside [0, 1]"),
        "weight_out_of_range": Kind(422, "A weight is negative or not finite"),
        "non_finite_input": Kind(422, "A tensor holds a NaN"),
        "invalid_parameter": Kind(422, "A parameter is unknown or not allowed"),
        "missing_tensor": Kind(422, "A tensor is missing"),
        "unknown_tensor": Kind(422, "There is no such tensor"),
        "empty_mean": Kind(422, "A mean over no elements"),
        "rate_limited": Kind(429, "The team's rate is used up", retryable=True, retry_after=1),
        "too_many_in_flight": Kind(429, "The team has too much under way", retryable=True, retry_after=1),
        "headers_too_large": Kind(431, "The request's head is over the limit"),
        "internal_error": Kind(500, "The server failed"),
        "worker_crashed": Kind(500, "This request ended a worker twice"),
        "draining": Kind(503, "The server is being stopped", retryable=True, retry_after=5),
        "overloaded": Kind(503, "The server has no room for this now", retryable=True, retry_after=1),
        "deadline_exceeded": Kind(504, "The deadline passed"),
        "out_of_memory": Kind(507, "The request does not fit the device"),
    }
)
"""Every code that this server answers with."""

BY_STATUS: Final = {404: "not_found", 405: "method_not_allowed"}
"""The codes of the statuses that the HTTP framework gives by itself."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem, ready to be sent.

    Attributes:
        status: The HTTP status.
        headers: The headers that go with it.
        body: The JSON document.
    """

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


def retry_after(fault: Fault, least: int) -> int:
    """Seconds after which a caller is to try again: as long as it may take, not all at the same time."""
    expected = max(float(least), fault.retry_after or 0.0)
    return math.ceil(min(expected, _LONGEST_RETRY) * random.uniform(1.0, _RETRY_SPREAD))  # noqa: S311


def problem(fault: Fault, request_id: str, *, retryable: bool | None = None, close: bool = False) -> Problem:
    """A fault as a problem document.

    Args:
        fault: What went wrong.
        request_id: The request's id.
        retryable: Whether the same request may succeed later; by default what its kind says.
        close: The connection is of no use after it.
    """
    kind = KINDS[fault.code]
    document: dict[str, object] = {
        "type": f"urn:lossd:problem:{fault.code}",
        "title": kind.title,
        "status": kind.status,
        "detail": conceal_keys(fault.detail),
        "code": fault.code,
        "request_id": request_id,
        "retryable": kind.retryable if retryable is None else retryable,
    }
    if fault.errors:
        document["errors"] = [
            {"pointer": conceal_keys(pointer), "detail": conceal_keys(detail)}
            for pointer, detail in fault.errors
        ]
    # Unpaired surrogates, which a caller's JSON may hold, cannot be written as UTF-8; as ASCII they can.
    body = json.dumps(document).encode("ascii")
    headers = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", b"%d" % len(body))]
    if kind.retry_after is not None:
        headers.append((b"retry-after", b"%d" % retry_after(fault, kind.retry_after)))
    if kind.status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="lossd"'))
    if close:
        headers.append((b"connection", b"close"))
    return Problem(kind.status, headers, body)

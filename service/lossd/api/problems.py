"""Problem details (RFC 9457): the one place where an error code gets a status and a title."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from lossd.teams import conceal_keys
from lossd.types import ErrorCode, RequestError

_LONGEST_RETRY: Final = 60.0
_RETRY_SPREAD: Final = 1.5

MEDIA_TYPE: Final = "application/problem+json"


@dataclass(frozen=True, slots=True)
class ProblemKind:
    """A kind of problem.

    Attributes:
        status: Its HTTP status.
        title: Its title, the same for every occurrence.
        remedy: What a caller can do, as the reference has it; a problem's detail knows more.
        retryable: Whether the same request may succeed later.
        retry_after: The least seconds for Retry-After, for the kinds that have that header.
    """

    status: int
    title: str
    remedy: str
    retryable: bool = False
    retry_after: int | None = None


KINDS: Final[Mapping[ErrorCode, ProblemKind]] = MappingProxyType(
    {
        ErrorCode.BAD_REQUEST: ProblemKind(
            400,
            "Not an HTTP request that this server understands",
            "Send HTTP/1.1; `detail` says what is not. A proxy on the way may have changed it.",
        ),
        ErrorCode.MALFORMED_JSON: ProblemKind(
            400,
            "The JSON cannot be read",
            "Send one object, whole, in UTF-8; `errors` says where reading ended.",
        ),
        ErrorCode.MALFORMED_NPY: ProblemKind(
            400,
            "A .npy file cannot be read",
            "Write the file by `numpy.save`, without pickled objects, and send it whole.",
        ),
        ErrorCode.MALFORMED_NPZ: ProblemKind(
            400, "The .npz file cannot be read", "Write the file by `numpy.savez`, and send it whole."
        ),
        ErrorCode.MALFORMED_ARROW: ProblemKind(
            400,
            "The Arrow stream cannot be read",
            "Write the stream by pyarrow's `ipc.new_stream`, and close it.",
        ),
        ErrorCode.MALFORMED_MULTIPART: ProblemKind(
            400, "The multipart body cannot be read", "Have a library make the body, as `curl -F` does."
        ),
        ErrorCode.TRUNCATED_BODY: ProblemKind(
            400, "The body ends too early", "Send all of the body; the file may have been cut."
        ),
        ErrorCode.TRAILING_BYTES: ProblemKind(
            400,
            "Bytes after the end of the body",
            "Send nothing behind the body, and name every .npy file in `tensors`.",
        ),
        ErrorCode.UNAUTHORIZED: ProblemKind(
            401,
            "A valid key is needed",
            "Send a key of a team that is not revoked, as `Authorization: Bearer KEY`.",
        ),
        ErrorCode.FORBIDDEN: ProblemKind(
            403,
            "This team may not use the server",
            "Ask the operator: the team is disabled, or the route is not for it.",
        ),
        ErrorCode.NOT_FOUND: ProblemKind(
            404, "There is no such route", "Look for the path in the list of routes."
        ),
        ErrorCode.METHOD_NOT_ALLOWED: ProblemKind(
            405, "The route does not take this method", "Use a method of the header Allow."
        ),
        ErrorCode.NOT_ACCEPTABLE: ProblemKind(
            406, "No acceptable answer format", "Accept `application/json`, or leave Accept out."
        ),
        ErrorCode.UPLOAD_TOO_SLOW: ProblemKind(
            408,
            "The request came too slowly",
            "Send again, from nearer or over a faster line, or compressed.",
            retryable=True,
        ),
        ErrorCode.BODY_TOO_LARGE: ProblemKind(
            413,
            "The body is over the limit",
            "Send fewer rows at a time and merge, or an Arrow stream, which may be of any length.",
        ),
        ErrorCode.EXPANDED_TOO_LARGE: ProblemKind(
            413, "The body expands beyond the limit", "Send fewer rows at a time."
        ),
        ErrorCode.OUTPUT_TOO_LARGE: ProblemKind(
            413,
            "The answer would be over the limit",
            "Ask for less: a reduction, an axis, or fewer sections of a report.",
        ),
        ErrorCode.UNSUPPORTED_MEDIA_TYPE: ProblemKind(
            415, "Bodies of this type are not read", "Send a Content-Type that `detail` lists."
        ),
        ErrorCode.DTYPE_NOT_ALLOWED: ProblemKind(
            415,
            "A tensor's elements have the wrong type",
            "Convert the tensor to a type that `detail` lists.",
        ),
        ErrorCode.UNSUPPORTED_ENCODING: ProblemKind(
            415,
            "Bodies in this encoding are not read",
            "Send the body as it is, or by gzip, deflate or zstd.",
        ),
        ErrorCode.SHAPE_MISMATCH: ProblemKind(
            422,
            "The tensors' shapes do not go together",
            "Bring the tensors to shapes that go together; `detail` has both.",
        ),
        ErrorCode.BAD_SHAPE: ProblemKind(
            422, "A tensor's shape is not allowed", "Give the tensor a shape that `detail` allows."
        ),
        ErrorCode.TARGET_OUT_OF_RANGE: ProblemKind(
            422,
            "A target is outside its range",
            "Look at the element that `errors` names, and at the range in `detail`; for class ids pass "
            "`targets_format=index`.",
        ),
        ErrorCode.PROBABILITY_OUT_OF_RANGE: ProblemKind(
            422,
            "A probability is outside [0, 1]",
            "Look at the element that `errors` names; logits are sent as `logits`.",
        ),
        ErrorCode.INVERTED_BOX: ProblemKind(
            422,
            "A box ends before it begins",
            "Look at the number that `errors` names, and at `format`, which says how boxes are written.",
        ),
        ErrorCode.WEIGHT_OUT_OF_RANGE: ProblemKind(
            422,
            "A weight is negative or not finite",
            "Look at the element that `errors` names; to drop elements, send a mask.",
        ),
        ErrorCode.NON_FINITE_INPUT: ProblemKind(
            422,
            "A tensor holds a NaN",
            "Look at the element that `errors` names, drop it by a mask, or pass `allow_nan`.",
        ),
        ErrorCode.INVALID_PARAMETER: ProblemKind(
            422,
            "A parameter is unknown or not allowed",
            "Spell the parameter as `detail` says, or give it a value that is allowed.",
        ),
        ErrorCode.MISSING_TENSOR: ProblemKind(
            422, "A tensor is missing", "Send the tensor that `detail` names."
        ),
        ErrorCode.UNKNOWN_TENSOR: ProblemKind(
            422, "There is no such tensor", "Name the tensor as `detail` lists."
        ),
        ErrorCode.EMPTY_MEAN: ProblemKind(
            422, "A mean over no elements", "Score at least one element, or take `reduction=sum`."
        ),
        ErrorCode.RATE_LIMITED: ProblemKind(
            429,
            "The team's rate is used up",
            "Wait for Retry-After; the header RateLimit says what is left.",
            retryable=True,
            retry_after=1,
        ),
        ErrorCode.TOO_MANY_IN_FLIGHT: ProblemKind(
            429,
            "The team has too much in flight",
            "Send fewer requests at a time, or wait for Retry-After.",
            retryable=True,
            retry_after=1,
        ),
        ErrorCode.HEADERS_TOO_LARGE: ProblemKind(
            431,
            "The request's head is over the limit",
            "Send fewer and shorter headers, and long lists of parameters in the body.",
        ),
        ErrorCode.INTERNAL_ERROR: ProblemKind(
            500, "The server failed", "Tell the operator the request's id; the server's log has the cause."
        ),
        ErrorCode.WORKER_CRASHED: ProblemKind(
            500,
            "This request ended a worker twice",
            "Tell the operator the request's id, and do not send it again.",
        ),
        ErrorCode.DRAINING: ProblemKind(
            503,
            "The server is being stopped",
            "Send again after Retry-After; another server takes over.",
            retryable=True,
            retry_after=5,
        ),
        ErrorCode.OVERLOADED: ProblemKind(
            503,
            "The server is overloaded",
            "Send again after Retry-After, and less at a time.",
            retryable=True,
            retry_after=1,
        ),
        ErrorCode.DEADLINE_EXCEEDED: ProblemKind(
            504, "The deadline passed", "Raise `X-Timeout-Ms`, if you sent it, or send fewer rows at a time."
        ),
        ErrorCode.OUT_OF_MEMORY: ProblemKind(
            507, "The request does not fit the device", "Send fewer rows at a time."
        ),
    }
)
"""The kind of every error code."""

BY_STATUS: Final = {404: ErrorCode.NOT_FOUND, 405: ErrorCode.METHOD_NOT_ALLOWED}
"""The error codes of the framework's own statuses."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem, ready to be sent.

    Attributes:
        status: The HTTP status.
        headers: Its headers.
        body: The JSON document.
    """

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


def retry_after(error: RequestError, least: int) -> int:
    """Return the seconds for Retry-After: the expected wait, and a random part so that callers spread out."""
    expected = max(float(least), error.retry_after or 0.0)
    if error.code != ErrorCode.RATE_LIMITED:  # its wait is exact, all others are estimates
        expected = min(expected, _LONGEST_RETRY)
    return math.ceil(expected * random.uniform(1.0, _RETRY_SPREAD))  # noqa: S311


def problem(
    error: RequestError, request_id: str, *, retryable: bool | None = None, close: bool = False
) -> Problem:
    """Return an error as a problem document.

    Args:
        error: The error.
        request_id: The request's id.
        retryable: Whether the same request may succeed later; by default that of its kind.
        close: Whether the connection is closed after it.
    """
    kind = KINDS[error.code]
    document: dict[str, object] = {
        "type": f"urn:lossd:problem:{error.code}",
        "title": kind.title,
        "status": kind.status,
        "detail": conceal_keys(error.detail),
        "code": error.code,
        "request_id": request_id,
        "retryable": kind.retryable if retryable is None else retryable,
    }
    if error.errors:
        document["errors"] = [
            {"pointer": conceal_keys(pointer), "detail": conceal_keys(detail)}
            for pointer, detail in error.errors
        ]
    # A caller's JSON may hold unpaired surrogates, which can be written as ASCII but not as UTF-8.
    body = json.dumps(document).encode("ascii")
    headers = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", b"%d" % len(body))]
    if kind.retry_after is not None:
        headers.append((b"retry-after", b"%d" % retry_after(error, kind.retry_after)))
    if kind.status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="lossd"'))
    if close:
        headers.append((b"connection", b"close"))
    return Problem(kind.status, headers, body)

"""Types shared by all layers.

A body is read into a `Body` (wire). With the parameters it becomes a `LossRequest` (api), and that a
`LossResult` (engine and core). Whatever is wrong with a request is a `RequestError`. Nothing here knows HTTP,
torch or processes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Final, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Float64Array: TypeAlias = npt.NDArray[np.float64]
Divisor: TypeAlias = Literal["count", "weight", "positives"]
"""What a mean divides by, where it is summed over the elements."""

MAX_DIMENSIONS: Final = 8
ROWS: Final = -1
"""Stands in a shape for a stream's number of rows, which is not known yet."""

ITEMSIZE: Final[Mapping[str, int]] = {
    "float16": 2,
    "bfloat16": 2,
    "float32": 4,
    "float64": 8,
    "bool": 1,
    "uint8": 1,
    "uint16": 2,
    "uint32": 4,
    "uint64": 8,
    "int8": 1,
    "int16": 2,
    "int32": 4,
    "int64": 8,
}
"""Bytes of an element, by dtype."""

FLOATS: Final = frozenset({"float16", "bfloat16", "float32", "float64"})
INTEGERS: Final = frozenset({"uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"})
TENSOR_DTYPES: Final[Mapping[str, frozenset[str]]] = {
    "logits": FLOATS,
    "probabilities": FLOATS,
    "boxes": FLOATS,
    "targets": frozenset(ITEMSIZE),
    "weight": FLOATS | INTEGERS,
    "pos_weight": FLOATS | INTEGERS,
    "class_weight": FLOATS | INTEGERS,
    "mask": INTEGERS | {"bool"},
    "groups": INTEGERS,
    "ids": INTEGERS,
    "baseline": FLOATS,
}
"""The tensors that a request may hold, and the dtypes allowed in each. `lossd.core.catalog.Loss.tensors` are
those of a loss."""
GROUP_PREFIX: Final = "group."
"""What the name of a column of group ids begins with, in a format that names its columns."""


def is_addressable(shape: Sequence[int], dtype: str) -> bool:
    """Return whether an array's strides in bytes are below 2^63. Strides ignore lengths of 0."""
    return math.prod(n for n in shape if n) * ITEMSIZE[dtype] < 1 << 63


class ErrorCode(StrEnum):
    """Codes of errors, which callers rely on. `lossd.api.problems` gives each a status and a title."""

    BAD_REQUEST = "bad_request"
    MALFORMED_JSON = "malformed_json"
    MALFORMED_NPY = "malformed_npy"
    MALFORMED_NPZ = "malformed_npz"
    MALFORMED_ARROW = "malformed_arrow"
    MALFORMED_MULTIPART = "malformed_multipart"
    TRUNCATED_BODY = "truncated_body"
    TRAILING_BYTES = "trailing_bytes"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    NOT_ACCEPTABLE = "not_acceptable"
    UPLOAD_TOO_SLOW = "upload_too_slow"
    BODY_TOO_LARGE = "body_too_large"
    EXPANDED_TOO_LARGE = "expanded_too_large"
    OUTPUT_TOO_LARGE = "output_too_large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    DTYPE_NOT_ALLOWED = "dtype_not_allowed"
    UNSUPPORTED_ENCODING = "unsupported_encoding"
    SHAPE_MISMATCH = "shape_mismatch"
    BAD_SHAPE = "bad_shape"
    TARGET_OUT_OF_RANGE = "target_out_of_range"
    PROBABILITY_OUT_OF_RANGE = "probability_out_of_range"
    INVERTED_BOX = "inverted_box"
    WEIGHT_OUT_OF_RANGE = "weight_out_of_range"
    NON_FINITE_INPUT = "non_finite_input"
    INVALID_PARAMETER = "invalid_parameter"
    MISSING_TENSOR = "missing_tensor"
    UNKNOWN_TENSOR = "unknown_tensor"
    EMPTY_MEAN = "empty_mean"
    RATE_LIMITED = "rate_limited"
    TOO_MANY_IN_FLIGHT = "too_many_in_flight"
    HEADERS_TOO_LARGE = "headers_too_large"
    INTERNAL_ERROR = "internal_error"
    WORKER_CRASHED = "worker_crashed"
    DRAINING = "draining"
    OVERLOADED = "overloaded"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    OUT_OF_MEMORY = "out_of_memory"


class RequestError(Exception):
    """A request that cannot be answered, and why.

    Attributes:
        code: The kind of error.
        detail: A sentence for the caller: what is wrong, and what to do.
        errors: `(JSON pointer, detail)` pairs for the wrong places, such as `("/targets/17/3", ...)`.
        retry_after: Seconds after which to try again, if they are known.
    """

    def __init__(
        self,
        code: ErrorCode,
        detail: str,
        errors: Sequence[tuple[str, str]] = (),
        *,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.errors = tuple(errors)
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle its arguments; an exception's own way would pickle the text alone."""
        return partial(type(self), retry_after=self.retry_after), (self.code, self.detail, self.errors)

    def copy(self) -> RequestError:
        """Return a new one to raise, without the tracebacks that a kept one collects."""
        return RequestError(self.code, self.detail, self.errors, retry_after=self.retry_after)


class Requester(NamedTuple):
    """Who sent a request, as far as its jobs need to know.

    Attributes:
        team: The team's name.
        weight: The team's share of a worker's time, relative to other teams'; over 0.
        request_id: The request's id, for logs.
        trace: The context of the request's span; empty without traces.
    """

    team: str = "default"
    weight: float = 1.0
    request_id: str = ""
    trace: str = ""


class Timings(NamedTuple):
    """Seconds that an answered request took, by stage.

    Attributes:
        read: Receiving the body, which includes waiting unread for a permit and memory.
        queue: Waiting for a worker.
        compute: Computing.
    """

    read: float
    queue: float
    compute: float


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor as it was received: the place and layout of its bytes.

    Attributes:
        dtype: A key of `ITEMSIZE`.
        shape: 0 to 8 dimensions, any of which may be 0.
        offset: The first byte, counted from the first byte of the body. Need not be aligned.
        fortran: The bytes are in column-major order.
        big_endian: The bytes of an element are in big-endian order.
    """

    dtype: str
    shape: tuple[int, ...]
    offset: int
    fortran: bool = False
    big_endian: bool = False

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """The number of bytes."""
        return self.size * ITEMSIZE[self.dtype]


@dataclass(slots=True)
class Body:
    """A body as a reader has read it.

    Attributes:
        tensors: Tensors that lie in the body as received.
        arrays: Tensors that the reader had to build (JSON), not yet in the arena: C-contiguous float64; int64
            for ids; bool for an array of booleans only.
        params: The body's parameters, as plain JSON values, unchecked.
        notes: Remarks for the caller on how the body was read, a sentence each.
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)
    arrays: dict[str, npt.NDArray[np.float64] | npt.NDArray[np.bool_] | npt.NDArray[np.int64]] = field(
        default_factory=dict
    )
    params: dict[str, object] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class LossRequest:
    """A loss to compute.

    Attributes:
        loss: The loss's name, such as ``focal``.
        tensors: By name, with offsets counted from the start of the arena. Lists of numbers among the
            parameters are tensors here: ``pos_weight``, ``alpha`` and ``class_weight``.
        params: Every parameter of the loss, checked, defaults filled in.
        own: The parameters with names of the loss's own, such as gamma, as the answer repeats them.
        options: Those with names that it shares with other losses, likewise.
        notes: Remarks for the caller, a sentence each.
        shape: The inputs' shape, `ROWS` first for a stream; empty if it is the losses' shape.
        row_size: The numbers of the inputs that have one loss.
    """

    loss: str
    tensors: Mapping[str, Tensor]
    params: Mapping[str, object]
    own: Mapping[str, object]
    options: Mapping[str, object] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()
    row_size: int = 1


@dataclass(slots=True)  # a frozen one takes three times as long to make
class LossResult:
    """A loss, and the sums by which it merges with others.

    Attributes:
        loss: A number where everything is reduced, else a float64 array (0 or more elements).
        reduction: ``none``, ``sum`` or ``mean``.
        count: Number of losses of the whole request that are not dropped.
        sum_terms: Floats that add up to the sum of the weighted losses exactly, largest first: the sum
            rounded once, what that left rounded once, and so on. `math.fsum` over many requests' terms
            gives the bits of one request over everything.
        weight_sum_terms: Likewise for the weights; the count where there is no weight.
        positives_terms: Likewise for the targets.
        shape: The inputs' shape.
        loss_name: Such as ``focal``.
        params: The loss's own parameters, such as gamma and alpha.
        kernel: Which kernel computed the elements: ``native`` or ``torch``.
        device: The device, such as ``cpu`` or ``cuda:0``; one of them if several shared it.
        elsewhere: Seconds of computing on the others, by device; None if there are none.
        options: The parameters that it shares with other losses, such as axis and normalizer.
        notes: Remarks for the caller, a sentence each.
        loss_terms: Arrays of the loss's shape that add up to its sums exactly, before any division; None
            unless rows (axis 0) are summed and the loss is an array.
        divisor_terms: Likewise for the divisors of a mean, also if a sum is asked for; sums of positives
            below 1 are not raised to 1.
        report: The report, as `lossd.core.document.document` makes it; None if there is none.
        row_size: The numbers of the inputs that have one loss.
    """

    loss: float | Float64Array
    reduction: str
    count: int
    sum_terms: tuple[float, ...]
    weight_sum_terms: tuple[float, ...]
    positives_terms: tuple[float, ...]
    shape: tuple[int, ...]
    loss_name: str
    params: Mapping[str, object]
    kernel: str
    device: str
    elsewhere: Mapping[str, float] | None = None
    options: Mapping[str, object] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    loss_terms: tuple[Float64Array, ...] | None = None
    divisor_terms: tuple[Float64Array, ...] | None = None
    report: dict[str, object] | None = None
    row_size: int = 1

    @property
    def sum(self) -> float:
        """The weighted losses, summed and rounded once."""
        return self.sum_terms[0]

    @property
    def weight_sum(self) -> float:
        """The weights, likewise."""
        return self.weight_sum_terms[0]

    @property
    def positives(self) -> float:
        """The targets, likewise."""
        return self.positives_terms[0]

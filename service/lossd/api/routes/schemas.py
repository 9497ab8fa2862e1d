"""The JSON documents that the server sends, as pydantic models for the OpenAPI document."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel


class Figure(RootModel[float | Literal["Infinity", "-Infinity", "NaN"]]):
    """A float64. One that is not finite is written as a string."""


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid")


class LossAnswer(_Document):
    """A loss, and the sums that merge with those of other requests."""

    loss: Figure | list[object] = Field(
        description="The loss: a number, or nested arrays for `none` and partial reductions."
    )
    loss_terms: list[list[object]] = Field(
        default=[],
        description="Where rows (axis 0) are summed and other axes stay: arrays of the loss's shape that add "
        "up to the sums exactly, before any division.",
    )
    divisor_terms: list[list[object]] = Field(
        default=[],
        description="Likewise for the divisors, also when a sum is asked for. Positives below 1 are not "
        "raised to 1.",
    )
    reduction: Literal["none", "sum", "mean"]
    sum: Figure = Field(description="The sum of all weighted losses.")
    count: int = Field(description="The number of losses that are not dropped.")
    weight_sum: Figure = Field(description="The sum of the weights; the count if there is no weight.")
    positives: Figure = Field(description="The sum of the targets.")
    shape: list[int] = Field(description="The inputs' shape.")
    loss_name: str
    params: dict[str, object] = Field(
        description="The loss's own parameters, such as gamma and alpha; for a class_weight tensor its dtype "
        "and shape."
    )
    sum_terms: list[Figure] = Field(
        description="Numbers that add up to the sum exactly: `sum`, then its rounding error, and so on. "
        "Those of many answers, added by `math.fsum`, give the bits of one request over everything."
    )
    weight_sum_terms: list[Figure] = Field(description="The same for `weight_sum`.")
    positives_terms: list[Figure] = Field(description="The same for `positives`.")
    options: dict[str, object] = Field(
        description="The parameters that it shares with other losses, such as axis; for a pos_weight "
        "tensor its dtype and shape."
    )
    notes: list[str] = Field(description="Notes on the answer, a sentence each; mostly none.")
    kernel: str = Field(description="The kernel that computed the losses.")
    device: str = Field(description="The device that computed the losses.")
    report: dict[str, object] = Field(default={}, description="The report; absent if none was asked for.")
    request_id: str
    version: str = Field(description="The server's version.")


class ErrorPlace(_Document):
    """A place in the request that is wrong."""

    pointer: str = Field(description="A JSON pointer, such as `/targets/17/3`.")
    detail: str


class Problem(_Document):
    """Problem details (RFC 9457)."""

    type: str = Field(description="The URI of the code: `urn:lossd:problem:` and the code.")
    title: str
    status: int
    detail: str = Field(description="What happened, and what to do next.")
    code: str
    request_id: str
    retryable: bool = Field(description="Whether the same request may succeed later.")
    errors: list[ErrorPlace] = Field(default=[], description="Where it is wrong; absent if that is nowhere.")


class InferenceReadiness(_Document):
    """Readiness in the Open Inference Protocol: whether every worker has passed its known-answer check."""

    ready: bool


class InferenceError(_Document):
    """An error in the Open Inference Protocol."""

    error: str = Field(description="What happened, and what to do next.")


class _Tensor(_Document):
    name: str
    shape: list[Annotated[int, Field(ge=0)]]
    parameters: dict[str, object] | None = None


class InferenceInput(_Tensor):
    """An input tensor: in `data`, or in `binary_data_size` bytes after the object."""

    datatype: Literal[
        "FP16",
        "BF16",
        "FP32",
        "FP64",
        "BOOL",
        "UINT8",
        "UINT16",
        "UINT32",
        "UINT64",
        "INT8",
        "INT16",
        "INT32",
        "INT64",
    ]
    name: Literal[
        "logits",
        "probabilities",
        "boxes",
        "targets",
        "weight",
        "pos_weight",
        "class_weight",
        "mask",
        "groups",
        "ids",
        "baseline",
    ]
    data: list[object] | None = Field(default=None, description="The numbers, flat or nested.")


class InferenceOutput(_Tensor):
    """An output tensor: in `data`, or in `binary_data_size` bytes after the object."""

    datatype: Literal["FP64", "INT64", "BYTES"]
    data: list[Figure | str] = Field(default=[], description="The numbers, flat; or the report's document.")


class RequestedOutput(_Document):
    """An output that the caller asks for."""

    name: Literal[
        "loss",
        "sum",
        "weight_sum",
        "positives",
        "count",
        "sum_terms",
        "weight_sum_terms",
        "positives_terms",
        "report",
    ]
    parameters: dict[str, object] | None = Field(
        default=None, description="`binary_data`: whether it follows the object as binary data."
    )


class InferenceRequest(_Document):
    """An inference request."""

    id: str | None = Field(default=None, description="An id that the answer repeats.")
    parameters: dict[str, object] | None = Field(
        default=None, description="The loss's parameters. A string is read as in a query."
    )
    inputs: list[InferenceInput]
    outputs: list[RequestedOutput] | None = Field(
        default=None,
        description="The outputs to send; by default all, and `report` if the parameter of that name is "
        "given. Naming `report` without the parameter asks for its totals.",
    )


class InferenceAnswer(_Document):
    """An inference answer."""

    model_name: str
    model_version: str
    id: str = Field(default="", description="The request's id, if it has one.")
    parameters: dict[str, object] = Field(
        default={}, description="`notes`: notes on the answer, if there are any."
    )
    outputs: list[InferenceOutput]


class RepositoryModel(_Document):
    """A model in the repository index."""

    name: str
    version: str
    state: Literal["READY", "UNAVAILABLE"]
    reason: str = Field(description="Why an unavailable model is unavailable.")


class Alive(_Document):
    """Liveness of the server."""

    status: Literal["alive"] = "alive"


class Readiness(_Document):
    """Readiness: whether requests are answered; ``degraded`` is ready, too."""

    status: Literal["ready", "degraded", "not ready"]
    reasons: list[str] | None = Field(default=None, description="What is wrong, unless it is ready.")


class UsageTotal(_Document):
    """A team's usage in total."""

    requests: int = Field(description="Requests answered with a loss.")
    elements: int = Field(description="The elements of these requests.")
    bytes: int = Field(description="The bytes of their bodies, as sent.")
    device_seconds: float = Field(description="The seconds of computing them.")


class UsageDay(UsageTotal):
    """A team's usage on one day."""

    day: date = Field(description="The day in UTC.")


class TeamLimits(_Document):
    """A team's limits; null does not limit."""

    requests_per_second: float | None = Field(description="Requests for a loss.")
    elements_per_second: float | None = Field(description="Elements of their inputs.")
    requests_in_flight: int | None = Field(description="Requests that are not answered yet.")
    bytes_in_flight: int | None = Field(description="Bytes of their bodies.")


class RequestsNow(_Document):
    """Requests at this moment, of this server."""

    requests: int
    bytes: int


class _Team(_Document):
    team: str = Field(description="Its name.")
    operator: bool = Field(description="Whether its keys may ask for `/overview`.")
    weight: float = Field(description="Its share of the server, in proportion to others'.")
    limits: TeamLimits
    in_flight: RequestsNow = Field(
        description="Its requests that are not answered yet, waiting ones included, and the bytes that their "
        "bodies take; without those that are answered at once."
    )


class Usage(_Team):
    """A team's usage by day, and its limits."""

    since: date = Field(description="The first day of the period asked for.")
    days: list[UsageDay] = Field(description="The days with any usage, oldest first.")
    total: UsageTotal


class WorkerInfo(_Document):
    """A worker."""

    pid: int
    device: str
    state: Literal["starting", "ready", "lost"]
    restarts: int


class TeamUsage(_Document):
    """A team's usage by day and in total."""

    days: list[UsageDay] = Field(description="The days with any usage, oldest first.")
    total: UsageTotal


class TeamOverview(_Team):
    """A team as an operator sees it."""

    disabled: bool = Field(description="Whether all its keys are refused.")
    waiting: RequestsNow = Field(
        description="Its requests that wait unread, for their turn or for memory, and the bytes that they "
        "wait for."
    )
    usage: TeamUsage | None = Field(description="Its usage; null where `notes` says why there is none.")


class QueueOverview(_Document):
    """The requests of all teams."""

    in_flight: RequestsNow = Field(
        description="Requests being worked on, and the memory reserved for bodies and answers."
    )
    waiting: RequestsNow = Field(description="Requests that wait unread, and the bytes they wait for.")


class MemoryOverview(_Document):
    """A part of the memory for bodies and answers."""

    part: Literal["bodies", "small_bodies", "answers"]
    bytes: int = Field(description="All of it, over all front ends.")
    reserved: int = Field(description="What is reserved now.")


class Overview(_Document):
    """All teams, the workers and the queue."""

    since: date = Field(description="The first day of the period asked for.")
    notes: list[str] = Field(description="Why usage is missing; mostly none.")
    teams: list[TeamOverview] = Field(description="The teams, in the order of the teams file.")
    workers: list[WorkerInfo]
    queue: QueueOverview
    memory: list[MemoryOverview]


class ParameterInfo(_Document):
    """A parameter of a loss."""

    name: str
    default: object
    values: dict[str, object] = Field(description="The values allowed, as JSON Schema.")
    summary: str


class LossInfo(_Document):
    """A loss."""

    name: str
    title: str
    summary: str
    tensors: list[str] = Field(description="The tensors that a request for it may have.")
    sections: list[str] = Field(description="The sections that its report may have.")
    parameters: list[ParameterInfo]


class Limits(_Document):
    """Limits of the server."""

    body_bytes: int
    json_bytes: int
    chunked_bytes: int
    expanded_bytes: int
    batch_bytes: int
    output_bytes: int
    arena_bytes: int
    report_top: int
    report_cells: int
    row_elements: int
    timeout_seconds: float


class Info(_Document):
    """A server's version, limits, losses and workers."""

    version: str
    torch: str | None = Field(description="The workers' torch; null before the first one is ready.")
    cpu_capability: str | None = Field(description="The vector instructions that the native kernel uses.")
    kernel: str | None = Field(description="The kernel, `native` or `torch`; both give the same numbers.")
    notes: list[str] = Field(description="Notes for the operator, such as a missing kernel.")
    losses: list[LossInfo]
    limits: Limits
    workers: list[WorkerInfo]

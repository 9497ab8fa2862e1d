"""The documents that the server sends, as pydantic models: the OpenAPI document is made of them."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Number = Annotated[
    float | Literal["Infinity", "-Infinity", "NaN"],
    Field(description="A float64; one that is not finite is written as a string."),
]


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid")


class LossAnswer(_Document):
    """A loss, and the figures by which it merges with others."""

    loss: Number | list[object] = Field(
        description="The loss: a number, or nested arrays for `none` and partial reductions."
    )
    loss_terms: list[list[object]] | None = Field(
        default=None,
        description="Where rows (axis 0) are summed and other axes stay: arrays of the loss's shape that add "
        "up to the sums exactly, before any division.",
    )
    divisor_terms: list[list[object]] | None = Field(
        default=None,
        description="There: likewise for what a mean divides the sums by, also where it is not asked for; "
        "positives as they are, though it divides by 1 at least.",
    )
    reduction: Literal["none", "sum", "mean"]
    sum: Number = Field(description="The weighted element losses of the whole request, summed.")
    count: int = Field(description="The elements of the whole request.")
    weight_sum: Number = Field(description="Their weights, summed; the count where there is no weight.")
    positives: Number = Field(description="Their targets, summed.")
    shape: list[int] = Field(description="The inputs' shape.")
    loss_name: str
    params: dict[str, object] = Field(description="The loss's own parameters, such as gamma and alpha.")
    sum_terms: list[Number] = Field(
        description="Numbers that add up to the sum exactly: `sum`, what rounding it left, and so on. Those "
        "of many answers, added by `math.fsum`, give the bits of one request over everything."
    )
    weight_sum_terms: list[Number] = Field(description="Likewise for `weight_sum`.")
    positives_terms: list[Number] = Field(description="Likewise for `positives`.")
    options: dict[str, object] = Field(
        description="The parameters that every loss has, such as axis and normalizer; of a pos_weight that "
        "is a tensor its dtype and shape."
    )
    notes: list[str] = Field(description="What to know of the answer, a sentence each; mostly none.")
    kernel: str = Field(description="What computed the elements.")
    device: str = Field(description="Where they were computed.")
    request_id: str
    version: str = Field(description="The server's version.")


class Place(_Document):
    """A place at fault."""

    pointer: str = Field(description="A JSON pointer, such as `/targets/17/3`.")
    detail: str


class Problem(_Document):
    """Problem details (RFC 9457)."""

    type: str = Field(description="A URI for the kind of problem: `urn:lossd:problem:` and the code.")
    title: str
    status: int
    detail: str = Field(description="What happened, and what to do next.")
    code: str
    request_id: str
    retryable: bool = Field(description="Whether the same request may succeed later.")
    errors: list[Place] | None = None


class InferenceReadiness(_Document):
    """Whether every worker has passed its known-answer check, as the Open Inference Protocol has it."""

    ready: bool


class InferenceError(_Document):
    """A problem, as the Open Inference Protocol has it."""

    error: str = Field(description="What happened, and what to do next.")


class _Tensor(_Document):
    name: str
    shape: list[Annotated[int, Field(ge=0)]]
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
    parameters: dict[str, object] | None = None


class InferenceInput(_Tensor):
    """A tensor: in `data`, or of `binary_data_size` bytes behind the object."""

    name: Literal["logits", "probabilities", "targets", "weight", "pos_weight", "mask"]
    data: list[object] | None = Field(default=None, description="The numbers, flat or nested.")


class InferenceOutput(_Tensor):
    """An output: in `data`, or of `binary_data_size` bytes behind the object."""

    data: list[Number] | None = Field(default=None, description="The numbers, flat.")


class RequestedOutput(_Document):
    """An output that is wanted."""

    name: Literal[
        "loss",
        "sum",
        "weight_sum",
        "positives",
        "count",
        "sum_terms",
        "weight_sum_terms",
        "positives_terms",
    ]
    parameters: dict[str, object] | None = Field(
        default=None, description="`binary_data`: whether it is to lie behind the object."
    )


class InferenceRequest(_Document):
    """An inference: a loss of the inputs."""

    id: str | None = Field(default=None, description="Comes back with the answer.")
    parameters: dict[str, object] | None = Field(
        default=None, description="The loss's parameters. A string stands for what it does in a query."
    )
    inputs: list[InferenceInput]
    outputs: list[RequestedOutput] | None = Field(default=None, description="All, if none is named.")


class InferenceAnswer(_Document):
    """The outputs of an inference."""

    model_name: str
    model_version: str
    id: str | None = None
    parameters: dict[str, object] | None = Field(
        default=None, description="`notes`: what to know of the answer, where there is something."
    )
    outputs: list[InferenceOutput]


class RepositoryModel(_Document):
    """A model that there is."""

    name: str
    version: str
    state: Literal["READY", "UNAVAILABLE"]
    reason: str = Field(description="Why it is unavailable, if it is.")


class Alive(_Document):
    """The server answers."""

    status: Literal["alive"] = "alive"


class Readiness(_Document):
    """Whether every worker has passed its known-answer check; ``degraded`` is ready, too."""

    status: Literal["ready", "degraded", "not ready"]
    reasons: list[str] | None = Field(default=None, description="What is amiss where it is degraded.")


class UsageTotal(_Document):
    """What a team has used."""

    requests: int = Field(description="Requests that were answered with a loss.")
    elements: int = Field(description="Their elements.")
    bytes: int = Field(description="The bytes of their bodies, as sent.")
    device_seconds: float = Field(description="The seconds of computing them.")


class UsageDay(UsageTotal):
    """What a team has used on a day."""

    day: date = Field(description="In UTC.")


class Usage(_Document):
    """What a team has used, by day."""

    team: str
    since: date = Field(description="The first of the days that were asked for.")
    days: list[UsageDay] = Field(description="The days on which anything was used, oldest first.")
    total: UsageTotal


class WorkerInfo(_Document):
    """A worker."""

    pid: int
    device: str
    state: Literal["starting", "ready", "lost"]
    restarts: int


class ParameterInfo(_Document):
    """A parameter of a loss."""

    name: str
    default: object
    summary: str


class LossInfo(_Document):
    """A loss that there is."""

    name: str
    title: str
    summary: str
    parameters: list[ParameterInfo]


class Limits(_Document):
    """What the server takes and sends at most."""

    body_bytes: int
    json_bytes: int
    chunked_bytes: int
    expanded_bytes: int
    batch_bytes: int
    output_bytes: int
    arena_bytes: int
    timeout_seconds: float


class Info(_Document):
    """What this server is."""

    version: str
    torch: str | None = Field(description="The workers' torch; null before the first one is ready.")
    cpu_capability: str | None = Field(description="The vector instructions that the native kernel uses.")
    kernel: str | None = Field(description="What computes: `native` or `torch`, whose numbers are the same.")
    notes: list[str] = Field(description="What its operator may want to change, such as a missing kernel.")
    losses: list[LossInfo]
    limits: Limits
    workers: list[WorkerInfo]

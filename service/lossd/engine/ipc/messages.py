"""Messages between front end, worker and supervisor, encoded as msgpack.

Tensors are not sent, only their offsets in the arena. Nothing is pickled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

import msgspec

from lossd.teams import Team
from lossd.types import ErrorCode, Tensor

UNUSABLE: Final = 78
"""Exit status of a process whose device or settings cannot be used (EX_CONFIG)."""
WRONG: Final = 70
"""Exit status of a process that fails its known-answer check (EX_SOFTWARE)."""


class BatchSpec(msgspec.Struct, array_like=True, frozen=True):
    """The loss and the tensors of a batch: a whole request, or some rows of a stream. Its slices share it.

    Attributes:
        loss: The loss's name.
        params: Its checked parameters.
        shape: The inputs' shape.
        axes: The axes reduced.
        elements: Most elements of a slice.
        tensors: By name, with offsets counted from the slice's base.
    """

    loss: str
    params: dict[str, object]
    shape: tuple[int, ...]
    axes: tuple[int, ...]
    elements: int
    tensors: dict[str, Tensor]


class Slice(msgspec.Struct, array_like=True, tag="slice", frozen=True):
    """From a front end to a worker: a slice of a batch to score.

    Attributes:
        id: Unique in its front end, never 0, below 2**48.
        job: The number of its job, the same for all slices of a request.
        batch: A `BatchSpec`, encoded: a worker decodes equal bytes only once.
        base: The arena offset that the batch's offsets are counted from.
        index: Its number in the batch.
        memories: Where sums of several outputs go, as (offset, count of float64): those of the losses, then
            those of the divisors if each output has its own; empty where everything is reduced to a number.
        deadline: Time by time.monotonic() after which no answer is wanted; infinite if there is none.
        report: Where its partial report goes, as (offset, bytes); None without a report.
        row: The number of the first row, in a stream.
        team: The request's team.
        weight: The team's share of the worker's time, relative to other teams'.
        request_id: The request's id, for the log.
        trace: Context of the request's span (W3C traceparent); empty if there is none.
    """

    id: int
    job: int
    batch: bytes
    base: int
    index: int
    memories: list[tuple[int, int]]
    deadline: float
    report: tuple[int, int] | None = None
    row: int = 0
    team: str = "default"
    weight: float = 1.0
    request_id: str = ""
    trace: str = ""


class Cancel(msgspec.Struct, array_like=True, tag="cancel", frozen=True):
    """From a front end to a worker: answer all slices of this job at once, unscored."""

    job: int


class Scored(msgspec.Struct, array_like=True, tag="scored", frozen=True):
    """From a worker: the sums of a slice, as lists of floats that add up to them exactly.

    Attributes:
        id: The slice's id.
        sum: The weighted losses.
        weight_sum: The weights; None if there are none.
        positives: The targets.
        count: Number of elements.
        planes: Number of arrays of its outputs written to each of its memories.
        seconds: Seconds of computing.
        began: When computing began, by time.monotonic().
        report: Bytes of the partial report that was written; 0 without a report.
    """

    id: int
    sum: list[float]
    weight_sum: list[float] | None
    positives: list[float]
    count: int
    planes: list[int]
    seconds: float
    began: float = 0.0
    report: int = 0


class Failed(msgspec.Struct, array_like=True, tag="failed", frozen=True):
    """From a worker: a slice that could not be scored, with a `RequestError`'s fields.

    Attributes:
        id: The slice's id.
        code: The error's code.
        detail: Its detail.
        errors: The places that are wrong.
        seconds: Seconds of computing.
        began: When computing began, by time.monotonic().
    """

    id: int
    code: ErrorCode
    detail: str
    errors: list[tuple[str, str]]
    seconds: float = 0.0
    began: float = 0.0


class Cancelled(msgspec.Struct, array_like=True, tag="cancelled", frozen=True):
    """From a worker: a slice that it dropped, because its job was cancelled."""

    id: int


class Ready(msgspec.Struct, array_like=True, tag="ready", frozen=True):
    """From a worker: it has passed its known-answer check.

    Attributes:
        kernel: ``native`` or ``torch``.
        device: Where it computes, such as ``cpu`` or ``cuda:0``.
        torch: The installed version of torch; empty if there is none.
        capability: The CPU's vector instructions in use.
    """

    kernel: str
    device: str
    torch: str
    capability: str


class WorkerStarted(msgspec.Struct, array_like=True, tag="started", frozen=True):
    """From the supervisor to a front end, with one end of its socket pair with a new worker.

    Attributes:
        worker: The worker's number.
        device: Its device.
        pid: Its process id.
        restarts: Number of processes before it in its slot.
        failures: How many of these in a row, up to the last, ended without answering anything.
    """

    worker: int
    device: str
    pid: int
    restarts: int
    failures: int = 0


class WorkerGone(msgspec.Struct, array_like=True, tag="gone", frozen=True):
    """From the supervisor to a front end: this worker has been reaped and writes to no memory any more.

    Attributes:
        worker: The worker's number.
        pid: Its process id.
        status: Its exit status, as subprocess reports it.
        running: The id of the slice of this front end that it was scoring, if any.
    """

    worker: int
    pid: int
    status: int
    running: int | None


class Listening(msgspec.Struct, array_like=True, tag="listening", frozen=True):
    """From a front end to the supervisor: it accepts requests."""


class TeamsChanged(msgspec.Struct, array_like=True, tag="teams", frozen=True):
    """From the supervisor to a front end, with a descriptor of memory: so many bytes are a `Teams`."""

    nbytes: int


class Degraded(msgspec.Struct, array_like=True, tag="degraded", frozen=True):
    """From the supervisor to a front end: what is wrong although requests are answered; empty if nothing."""

    reasons: list[str]


class Leaving(msgspec.Struct, array_like=True, tag="leaving", frozen=True):
    """From the supervisor to a front end: the server is being stopped. SIGTERM follows after a while.

    Attributes:
        handed_over: Another server accepts from the listening socket, now or later, so close it.
    """

    handed_over: bool


class ReadAgain(msgspec.Struct, array_like=True, tag="read", frozen=True):
    """From the supervisor to a front end: read the certificate again."""


class Teams(msgspec.Struct, array_like=True, frozen=True):
    """All teams.

    Attributes:
        teams: By name.
        rows: Each team's row of the quotas, by name.
    """

    teams: dict[str, Team]
    rows: dict[str, int]


class FrontEndStarted(msgspec.Struct, array_like=True, tag="front", frozen=True):
    """From the supervisor to a worker, with its socket to a new front end, and that one's arena.

    Attributes:
        front_end: The front end's number.
        arena_bytes: Length of its arena.
    """

    front_end: int
    arena_bytes: int


FromFrontEnd: TypeAlias = Slice | Cancel
Answer: TypeAlias = Scored | Failed | Cancelled
"""A worker's answer to a slice: each gets one."""
FromWorker: TypeAlias = Answer | Ready
FromSupervisor: TypeAlias = (
    WorkerStarted | WorkerGone | FrontEndStarted | TeamsChanged | Degraded | Leaving | ReadAgain
)

encode: Final = msgspec.msgpack.Encoder().encode
"""Encode a message, a `BatchSpec` or `Teams`. Equal ones have equal bytes if their dicts have one order."""
_Decoder: Final = msgspec.msgpack.Decoder
decode_from_front_end: Final[Callable[[bytes | memoryview], FromFrontEnd]] = _Decoder(FromFrontEnd).decode
decode_from_worker: Final[Callable[[bytes], FromWorker]] = _Decoder(FromWorker).decode
decode_from_supervisor: Final[Callable[[bytes], FromSupervisor]] = _Decoder(FromSupervisor).decode
decode_batch: Final[Callable[[bytes], BatchSpec]] = _Decoder(BatchSpec).decode
decode_teams: Final[Callable[[bytes], Teams]] = _Decoder(Teams).decode

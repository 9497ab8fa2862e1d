"""What front end, worker and supervisor say to each other: small msgpack frames on socket pairs.

Tensors never travel here, only where they lie in the arena. Nothing is pickled. The sockets keep message
borders (SOCK_SEQPACKET), so a frame is one send and one recv.
"""

from __future__ import annotations

import socket
from typing import Final, TypeAlias

import msgspec

from lossd.teams import Team
from lossd.types import Tensor

MAX_FRAME: Final = 1 << 17
UNUSABLE: Final = 78
"""Exit status of a worker that cannot use its device at all (EX_CONFIG)."""
WRONG: Final = 70
"""Exit status of a worker that has come to compute wrongly (EX_SOFTWARE)."""


class Recipe(msgspec.Struct, array_like=True, frozen=True):
    """What is asked of a worker with all slices of a request, or of one batch of a stream's rows.

    Attributes:
        loss: The loss's name.
        params: Its checked parameters.
        shape: The inputs' shape.
        axes: The axes reduced.
        elements: How many elements a slice has at most.
        tensors: By name, with offsets counted from the slice's base.
    """

    loss: str
    params: dict[str, object]
    shape: tuple[int, ...]
    axes: tuple[int, ...]
    elements: int
    tensors: dict[str, Tensor]


class Slice(msgspec.Struct, array_like=True, tag="slice", frozen=True):
    """Work for a worker: a part of a request.

    Attributes:
        id: Unique in its front end, never 0, below 2**48.
        request: The request's number; slices of one request share it.
        recipe: A `Recipe`, encoded; whoever has decoded the same bytes before need not do so again.
        base: Where in the arena the recipe's offsets are counted from.
        index: Which part it is.
        memories: Where sums of several outputs go, as (offset, count of float64): those of the losses, then
            those of the divisors where each output has its own; empty where all is reduced to one number.
        deadline: When the answer is of no use any more, by time.monotonic(); infinite if there is none.
        row: The number of the first row, of a stream's batch.
        team: Whose request it is.
        weight: The team's share of the worker's time, in proportion to others'.
        identity: The id that the caller knows the request by, for the log.
        trace: The context of the request's span, if there is one (W3C's traceparent).
    """

    id: int
    request: int
    recipe: bytes
    base: int
    index: int
    memories: list[tuple[int, int]]
    deadline: float
    row: int = 0
    team: str = "default"
    weight: float = 1.0
    identity: str = ""
    trace: str = ""


class Cancel(msgspec.Struct, array_like=True, tag="cancel", frozen=True):
    """For a worker: nobody waits for this request; its unfinished slices are answered at once."""

    request: int


class Scored(msgspec.Struct, array_like=True, tag="scored", frozen=True):
    """A slice's sums: lists of floats that add up to them exactly.

    Attributes:
        id: The slice's.
        sum: The weighted losses.
        weight_sum: The weights; None if there are none.
        positives: The targets.
        count: The elements.
        planes: How many arrays of its outputs were written to each of its memories.
        seconds: How long it took.
    """

    id: int
    sum: list[float]
    weight_sum: list[float] | None
    positives: list[float]
    count: int
    planes: list[int]
    seconds: float


class Failed(msgspec.Struct, array_like=True, tag="failed", frozen=True):
    """A slice that could not be scored, and why: a RequestError's fields."""

    id: int
    code: str
    detail: str
    errors: list[tuple[str, str]]


class Ready(msgspec.Struct, array_like=True, tag="ready", frozen=True):
    """A worker that has passed its known-answer check.

    Attributes:
        kernel: What computes: ``native`` or ``torch``.
        device: Where.
        torch: The version of torch that is installed; empty if there is none.
        capability: Which of the CPU's vector instructions are used.
    """

    kernel: str
    device: str
    torch: str
    capability: str


class WorkerStarted(msgspec.Struct, array_like=True, tag="started", frozen=True):
    """For a front end, from the supervisor, with one end of its socket pair with a new worker attached.

    Attributes:
        worker: The worker's number.
        device: What it computes on.
        pid: Its process.
        restarts: How many processes had its place before.
        failures: How many of these, without a break up to the last, answered nothing.
    """

    worker: int
    device: str
    pid: int
    restarts: int
    failures: int = 0


class WorkerGone(msgspec.Struct, array_like=True, tag="gone", frozen=True):
    """For a front end: this worker has been reaped and writes to no memory any more.

    Attributes:
        worker: The worker's number.
        pid: Its process.
        status: How it ended, as subprocess has it.
        running: The slice of this front end that it was running, if any.
    """

    worker: int
    pid: int
    status: int
    running: int | None


class Listening(msgspec.Struct, array_like=True, tag="listening", frozen=True):
    """For the supervisor: the front end takes requests."""


class TeamsChanged(msgspec.Struct, array_like=True, tag="teams", frozen=True):
    """For a front end, with memory attached that holds a `Teams` of so many bytes."""

    nbytes: int


class Degraded(msgspec.Struct, array_like=True, tag="degraded", frozen=True):
    """For a front end: what is amiss although requests are answered; nothing, if there are no reasons."""

    reasons: list[str]


class Teams(msgspec.Struct, array_like=True, frozen=True):
    """All teams.

    Attributes:
        teams: By name.
        slots: The row of the quotas that is each one's.
    """

    teams: dict[str, Team]
    slots: dict[str, int]


class FrontEndStarted(msgspec.Struct, array_like=True, tag="front", frozen=True):
    """For a worker, with one end of its socket pair with a front end attached, and that one's arena.

    Attributes:
        front_end: The front end's number.
        arena_bytes: How long its arena is.
    """

    front_end: int
    arena_bytes: int


FromFrontEnd: TypeAlias = Slice | Cancel
FromWorker: TypeAlias = Scored | Failed | Ready
FromSupervisor: TypeAlias = WorkerStarted | WorkerGone | FrontEndStarted | TeamsChanged | Degraded

_encoder: Final = msgspec.msgpack.Encoder()
_from_front_end: Final[msgspec.msgpack.Decoder[FromFrontEnd]] = msgspec.msgpack.Decoder(FromFrontEnd)
_recipes: Final[msgspec.msgpack.Decoder[Recipe]] = msgspec.msgpack.Decoder(Recipe)
_from_worker: Final[msgspec.msgpack.Decoder[FromWorker]] = msgspec.msgpack.Decoder(FromWorker)
_teams: Final[msgspec.msgpack.Decoder[Teams]] = msgspec.msgpack.Decoder(Teams)
_from_supervisor: Final[msgspec.msgpack.Decoder[FromSupervisor]] = msgspec.msgpack.Decoder(FromSupervisor)


def encode(frame: FromFrontEnd | FromWorker | FromSupervisor | Listening) -> bytes:
    """A frame's bytes."""
    return _encoder.encode(frame)


def encode_recipe(recipe: Recipe) -> bytes:
    """A recipe's bytes: the same for equal ones whose parts are in the same order."""
    return _encoder.encode(recipe)


def decode_recipe(data: bytes) -> Recipe:
    """A recipe, from its bytes."""
    return _recipes.decode(data)


def decode_from_front_end(data: bytes | memoryview) -> FromFrontEnd:
    """What the front end says to a worker, from its bytes."""
    return _from_front_end.decode(data)


def decode_from_worker(data: bytes) -> FromWorker:
    """What a worker says, from its bytes."""
    return _from_worker.decode(data)


def decode_from_supervisor(data: bytes | memoryview) -> FromSupervisor:
    """What the supervisor says, from its bytes."""
    return _from_supervisor.decode(data)


def encode_teams(teams: Teams) -> bytes:
    """All teams' bytes."""
    return _encoder.encode(teams)


def decode_teams(data: bytes) -> Teams:
    """All teams, from their bytes."""
    return _teams.decode(data)


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """Two connected ends for frames."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 * MAX_FRAME)
    return ours, theirs

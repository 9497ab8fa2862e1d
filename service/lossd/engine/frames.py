"""What front end, worker and supervisor say to each other: small msgpack frames on socket pairs.

Tensors never travel here, only where they lie in the arena. Nothing is pickled. The sockets keep message
borders (SOCK_SEQPACKET), so a frame is one send and one recv.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias

import msgspec

from lossd.request import Tensor
from lossd.teams import Team

MAX_FRAME: Final = 1 << 17
UNUSABLE: Final = 78
"""Exit status of a worker that cannot use its device at all (EX_CONFIG)."""
WRONG: Final = 70
"""Exit status of a worker that has come to compute wrongly (EX_SOFTWARE)."""


class Recipe(msgspec.Struct, array_like=True, frozen=True):
    """What is asked of a worker, but for where it lies and which part of it: alike for alike requests.

    Attributes:
        loss: The loss's name.
        params: Its checked parameters.
        shape: The inputs' shape.
        axes: The axes reduced.
        block: How many elements a block has at most.
        tensors: By name, with offsets counted from the slice's base.
    """

    loss: str
    params: dict[str, object]
    shape: tuple[int, ...]
    axes: tuple[int, ...]
    block: int
    tensors: dict[str, Tensor]


class Slice(msgspec.Struct, array_like=True, tag="slice", frozen=True):
    """Work for a worker: a run of a request's blocks.

    Attributes:
        id: Unique in its front end, never 0, below 2**48.
        request: The request's number; slices of one request share it.
        recipe: A `Recipe`, encoded; whoever has decoded the same bytes before need not do so again.
        base: Where in the arena the recipe's offsets are counted from.
        first: The first block.
        last: The block after the last.
        partials: Where partial sums go, as (offset, count of float64): of the losses, then of the divisors
            where each output has its own; empty where everything is reduced.
        deadline: When the answer is of no use any more, by time.monotonic(); infinite if there is none.
        rows: For a stream, whose shape is what is known so far: the number of the tensors' first row, and how
            many rows they have.
        team: Whose request it is.
        weight: The team's share of the worker's time, in proportion to others'.
        alone: It was running when a worker ended, and is not to be scored together with others.
        identity: The id that the caller knows the request by, for the log.
        trace: The context of the request's span, if there is one (W3C's traceparent).
    """

    id: int
    request: int
    recipe: bytes
    base: int
    first: int
    last: int
    partials: list[tuple[int, int]]
    deadline: float
    rows: tuple[int, int] | None = None
    team: str = "default"
    weight: float = 1.0
    alone: bool = False
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
        pieces: What was written to each of the partials' memories, as (output, planes, length).
        seconds: How long it took; of several that were scored together, its part.
        together: How many those were, said of one of them, and 0 of the others; 1 for one that was alone.
    """

    id: int
    sum: list[float]
    weight_sum: list[float] | None
    positives: list[float]
    count: int
    pieces: list[list[tuple[int, int, int]]]
    seconds: float
    together: int = 1


class Failed(msgspec.Struct, array_like=True, tag="failed", frozen=True):
    """A slice that could not be scored, and why: a Fault's fields, and ``together`` as in `Scored`."""

    id: int
    code: str
    detail: str
    errors: list[tuple[str, str]]
    together: int = 1


class Answers(msgspec.Struct, array_like=True, tag="answers", frozen=True):
    """The answers to several slices, which were scored together."""

    answers: list[Scored | Failed]


class Ready(msgspec.Struct, array_like=True, tag="ready", frozen=True):
    """A worker that has passed its known-answer check."""

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
        running: The slices of this front end that it was running.
    """

    worker: int
    pid: int
    status: int
    running: list[int]


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
FromWorker: TypeAlias = Scored | Failed | Answers | Ready
FromSupervisor: TypeAlias = WorkerStarted | WorkerGone | FrontEndStarted | TeamsChanged | Degraded

_ARRAY_16: Final = 0xDC  # of msgpack: two bytes of length follow, more than fit into a frame
_BUNDLE_HEAD: Final = struct.Struct(">BH")

_encoder: Final = msgspec.msgpack.Encoder()
_from_front_end: Final[msgspec.msgpack.Decoder[list[FromFrontEnd]]] = msgspec.msgpack.Decoder(
    list[FromFrontEnd]
)
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


def bundle(frames: Sequence[bytes]) -> Iterator[bytes]:
    """Frames for a worker, encoded, as few messages: msgpack's array 16 of each message's."""
    start = nbytes = 0
    for end, frame in enumerate(frames):
        if nbytes + len(frame) > MAX_FRAME - _BUNDLE_HEAD.size and end > start:
            yield _BUNDLE_HEAD.pack(_ARRAY_16, end - start) + b"".join(frames[start:end])
            start, nbytes = end, 0
        nbytes += len(frame)
    yield _BUNDLE_HEAD.pack(_ARRAY_16, len(frames) - start) + b"".join(frames[start:])


def decode_from_front_end(data: bytes | memoryview) -> list[FromFrontEnd]:
    """What the front end says to a worker in a message."""
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

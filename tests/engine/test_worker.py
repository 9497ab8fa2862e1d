"""A worker in a thread, with a clock that is ours and a kernel that says what it scores."""

from __future__ import annotations

import itertools
import math
import os
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from lossd.core import grid as grids
from lossd.core.catalog import LOSSES, check_params, divisor, reduced_axes
from lossd.core.grid import Grid
from lossd.core.kernel import EagerKernel, Score
from lossd.core.known_answers import WrongAnswerError
from lossd.core.together import Pair, Sums
from lossd.core.work import Work
from lossd.engine.arena import Memory, create_memory
from lossd.engine.board import Board
from lossd.engine.board import nbytes as board_bytes
from lossd.engine.frames import (
    MAX_FRAME,
    Answers,
    Cancel,
    Failed,
    FromFrontEnd,
    FrontEndStarted,
    Ready,
    Recipe,
    Scored,
    Slice,
    bundle,
    decode_from_worker,
    decode_recipe,
    encode,
    encode_recipe,
    socket_pair,
)
from lossd.engine.worker import IDLE_SECONDS, QUANTUM_SECONDS, Worker
from lossd.request import Tensor

BLOCK = 64

ARENA = 1 << 22
FRONT_END = 3
Clock = Callable[[], float]


def message(frame: FromFrontEnd) -> bytes:
    """A message of one frame."""
    (found,) = bundle([encode(frame)])
    return found


def ticking() -> Clock:
    """Each look at it is a quantum later than the last: a block is a quantum."""
    return itertools.count(0.0, QUANTUM_SECONDS).__next__


def standing() -> Clock:
    """A slice is a quantum, however long."""
    return lambda: 0.0


def stumbling(seed: int) -> Clock:
    """Quanta of random lengths."""
    steps = random.Random(seed)
    return itertools.accumulate(
        steps.choice([0.0, 0.2, 2.0]) * QUANTUM_SECONDS for _ in itertools.count()
    ).__next__


class HeardKernel(EagerKernel):
    """Says after each block that there is one less to score."""

    def __init__(self, block: int = BLOCK) -> None:
        super().__init__(block=block)
        self.hear: Callable[[], None] = lambda: None

    def steps(self, work: Work, first: int, last: int, score: Score) -> Iterator[int]:
        for following in super().steps(work, first, last, score):
            self.hear()
            yield following


class Desk:
    """The places of the supervisor and of a front end: memory, and sockets to the worker.

    Attributes:
        trace: The marked slice's id for each block that was scored.
        events: What to send when so many blocks have been scored.
    """

    def __init__(self, *, large: bool = False) -> None:
        self.arena_fd = create_memory(ARENA)
        self.memory = Memory(self.arena_fd, ARENA)
        self.board = Board(create_memory(board_bytes(1)), 1)
        self.control, self.worker_control = socket_pair()
        self.link = self.join(FRONT_END, self.arena_fd)
        self.kernel = HeardKernel(grids.BLOCK if large else BLOCK)
        self.kernel.hear = self._hear
        self.trace: list[int] = []
        self.events: dict[int, list[FromFrontEnd]] = {}
        self._offset = 0
        self._ids = itertools.count(1)

    def join(self, number: int, arena_fd: int) -> socket.socket:
        """Introduce a front end; its end of the socket."""
        link, worker_link = socket_pair()
        with worker_link:
            frame = encode(FrontEndStarted(number, ARENA))
            socket.send_fds(self.control, [frame], [worker_link.fileno(), arena_fd])
        return link

    @property
    def running(self) -> int:
        """The slice that the worker says it is running."""
        running = [slice_id for _, slice_id in self.board.read(0).running]
        return running[0] if running else 0

    def send(self, *frames: FromFrontEnd) -> None:
        for frame in frames:
            self.link.sendall(message(frame))

    def answers(self, count: int) -> dict[int, Scored | Failed]:
        found: dict[int, Scored | Failed] = {}
        while len(found) < count:
            frame = decode_from_worker(self.link.recv(MAX_FRAME))
            if isinstance(frame, Answers):
                found |= {answer.id: answer for answer in frame.answers}
            elif not isinstance(frame, Ready):
                found[frame.id] = frame
        return found

    def request(
        self,
        number: int,
        arrays: dict[str, npt.NDArray[Any]],
        *,
        blocks: int = 1 << 30,
        team: str = "default",
        weight: float = 1.0,
        deadline: float = math.inf,
        **params: object,
    ) -> list[Slice]:
        """A focal request in slices of so many blocks."""
        shape = arrays["logits"].shape
        checked = check_params(LOSSES["focal"], params)
        grid = Grid(shape, reduced_axes(checked, shape), BLOCK)
        tensors = {
            name: Tensor(array.dtype.name, array.shape, self._lay(array)) for name, array in arrays.items()
        }
        channels = 0 if len(grid.axes) == len(shape) else 1 if divisor(checked, grid, arrays) is None else 2
        recipe = Recipe("focal", checked, shape, grid.axes, BLOCK, tensors)
        slices = []
        for first in range(0, grid.blocks, blocks):
            last = min(first + blocks, grid.blocks)
            room = grid.partials(first, last)
            slices.append(
                Slice(
                    id=next(self._ids),
                    request=number,
                    recipe=encode_recipe(recipe),
                    base=0,
                    first=first,
                    last=last,
                    partials=[(self._lay(np.zeros(room)), room) for _ in range(channels)],
                    deadline=deadline,
                    team=team,
                    weight=weight,
                )
            )
        return slices

    def plain(self, number: int, count: int, **fields: Any) -> list[Slice]:  # noqa: ANN401 -- whatever request takes
        """A request of so many blocks."""
        arrays: dict[str, npt.NDArray[Any]] = {
            "logits": np.ones(count * BLOCK, np.float32),
            "targets": np.zeros(count * BLOCK, np.uint8),
        }
        return self.request(number, arrays, **fields)

    def _lay(self, array: npt.NDArray[Any]) -> int:
        offset = self._offset
        self.memory.view[offset : offset + array.nbytes] = array.tobytes()
        self._offset += -(-array.nbytes // 64) * 64
        return offset

    def _hear(self) -> None:
        self.trace.append(self.running)
        self.send(*self.events.pop(len(self.trace), ()))


@contextmanager
def working(desk: Desk, clock: Clock, check_seconds: float = math.inf) -> Iterator[None]:
    """Run a worker; it ends with the supervisor's end of the socket.

    What is to be there from the start is sent before.
    """
    worker = Worker(0, desk.kernel, desk.board, desk.worker_control, check_seconds, clock)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        yield
    finally:
        desk.control.close()
        thread.join()
        desk.link.close()
        os.close(desk.arena_fd)


def everything(rng: np.random.Generator, shape: tuple[int, ...]) -> dict[str, npt.NDArray[Any]]:
    return {
        "logits": rng.normal(0, 8, shape).astype(np.float32),
        "targets": rng.random(shape),
        "weight": rng.random(shape[-1]),
        "mask": rng.random(shape) < 0.9,
    }


REDUCTIONS: list[dict[str, Any]] = [
    {},
    {"normalizer": "weight"},
    {"reduction": "none"},
    {"reduction": "sum", "axis": 0},
    {"axis": 0, "normalizer": "weight"},
    {"axis": 1, "normalizer": "positives"},
    {"axis": [0, 2], "normalizer": "weight"},
]


def outcome(clock: Clock) -> tuple[dict[int, Scored | Failed], bytes, list[int]]:
    """What a worker answers to all reductions at once, what it leaves in memory, and the order of blocks."""
    rng = np.random.default_rng(4)
    desk = Desk()
    slices = []
    for number, params in enumerate(REDUCTIONS):
        shape = (20, 7, 11) if number % 2 else (3, 40, 30)
        arrays = everything(rng, shape)
        slices += desk.request(number, arrays, blocks=5, team=f"team {number % 3}", **params)
    with working(desk, clock):
        desk.send(*slices)
        answers = desk.answers(len(slices))
    assert all(isinstance(answer, Scored) for answer in answers.values())
    timeless = {key: msgspec.structs.replace(answer, seconds=0.0) for key, answer in answers.items()}
    return timeless, bytes(desk.memory.view), desk.trace


@pytest.mark.parametrize("clock", [ticking(), *map(stumbling, range(5))])
def test_quanta_change_no_bit(clock: Clock) -> None:
    answers, memory, order = outcome(clock)
    expected, expected_memory, expected_order = outcome(standing())
    assert answers == expected
    assert memory == expected_memory
    assert Counter(order) == Counter(expected_order)
    assert order != expected_order  # slices were interrupted


def test_a_slice_is_not_interrupted_where_nobody_waits_long() -> None:
    desk = Desk()
    (large,) = desk.plain(1, 50, team="a")
    (small,) = desk.plain(2, 1, team="b")
    desk.send(large, small)
    with working(desk, standing()):
        desk.answers(2)
    assert desk.trace == [large.id] * 50 + [small.id]


def test_another_teams_request_waits_for_a_quantum() -> None:
    desk = Desk()
    (large,) = desk.plain(1, 100, team="a")
    (small,) = desk.plain(2, 1, team="b")
    desk.events[3] = [small]
    desk.send(large)
    with working(desk, ticking()):
        answers = list(desk.answers(2))
    assert answers == [small.id, large.id]
    assert desk.trace.index(small.id) == 3
    assert desk.running == 0


def test_requests_of_a_team_take_turns() -> None:
    desk = Desk()
    large = desk.plain(1, 100, blocks=50)
    (small,) = desk.plain(2, 2)
    desk.events[10] = [small]
    desk.send(*large)
    with working(desk, ticking()):
        desk.answers(3)
    assert desk.trace[9:14] == [large[0].id, small.id, large[0].id, small.id, large[0].id]


def test_teams_have_time_by_weight() -> None:
    desk = Desk()
    (one,) = desk.plain(1, 100, team="a", weight=1.0)
    (three,) = desk.plain(2, 100, team="b", weight=3.0)
    desk.events[1] = [one, three]
    desk.send(*desk.plain(3, 1, team="c"))
    with working(desk, ticking()):
        desk.answers(3)
    served = Counter(desk.trace[10:90])
    assert served[three.id] == pytest.approx(3 * served[one.id], abs=4)


def test_the_deadline_is_looked_at_before_each_quantum() -> None:
    desk = Desk()
    (late,) = desk.plain(1, 100, deadline=20 * QUANTUM_SECONDS)
    (other,) = desk.plain(2, 30)
    desk.send(late, other)
    with working(desk, ticking()):
        answers = desk.answers(2)
    assert isinstance(answers[other.id], Scored)
    failed = answers[late.id]
    assert isinstance(failed, Failed)
    assert failed.code == "deadline_exceeded"
    assert 1 <= Counter(desk.trace)[late.id] <= 10


def test_a_cancelled_request_is_answered_at_once() -> None:
    desk = Desk()
    ended = desk.plain(1, 100, blocks=50)
    (other,) = desk.plain(2, 20)
    desk.events[6] = [Cancel(1), Cancel(99)]
    desk.send(*ended, other)
    with working(desk, ticking()):
        answers = desk.answers(3)
    assert list(answers) == [*(piece.id for piece in ended), other.id]
    for piece in ended:
        failed = answers[piece.id]
        assert isinstance(failed, Failed)
        assert failed.code == "cancelled"
    assert isinstance(answers[other.id], Scored)
    assert Counter(desk.trace)[ended[0].id] <= 6
    assert ended[1].id not in desk.trace


def test_what_fails_between_two_quanta_fails_alone() -> None:
    desk = Desk()
    arrays = {"logits": np.ones(10 * BLOCK), "targets": np.zeros(10 * BLOCK)}
    arrays["targets"][7 * BLOCK + 3] = 2.0
    (wrong,) = desk.request(1, arrays)
    (right,) = desk.plain(2, 30)
    desk.send(wrong, right)
    with working(desk, ticking()):
        answers = desk.answers(2)
    failed = answers[wrong.id]
    assert isinstance(failed, Failed)
    assert failed.code == "target_out_of_range"
    assert failed.errors[0][0] == f"/targets/{7 * BLOCK + 3}"
    assert isinstance(answers[right.id], Scored)


def test_the_seconds_of_a_slice_are_those_of_its_quanta() -> None:
    desk = Desk()
    (one,) = desk.plain(1, 10, team="a")
    (other,) = desk.plain(2, 10, team="b")
    desk.send(one, other)
    with working(desk, ticking()):
        answers = desk.answers(2)
    for answer in answers.values():
        assert isinstance(answer, Scored)
        assert answer.seconds == pytest.approx(2 * 10 * QUANTUM_SECONDS)  # it looks twice in a quantum


def test_front_ends_come_and_go() -> None:
    """Each is answered alone; what one that is gone still wanted is not computed."""
    desk = Desk()
    (gone,) = desk.plain(1, 1000)
    (other,) = desk.plain(1, 30)  # of another front end, whose numbers are the same
    late = desk.join(4, desk.arena_fd)
    with late, working(desk, ticking()):
        desk.send(gone)
        while len(desk.trace) < 10:
            time.sleep(0.001)
        late.sendall(message(other))
        desk.link.close()
        assert isinstance(decode_from_worker(late.recv(MAX_FRAME)), Ready)
        answer = decode_from_worker(late.recv(MAX_FRAME))
        assert isinstance(answer, Scored)
        assert answer.id == other.id
        scored = len(desk.trace)
        late.sendall(message(Cancel(7)))
        assert scored < 1000
    assert len(desk.trace) == scored


def test_a_front_end_that_does_not_listen_holds_up_nobody() -> None:
    desk = Desk()
    deaf = desk.join(4, desk.arena_fd)
    slices = desk.plain(1, 3000, blocks=1)
    (one,) = desk.plain(2, 1)
    with deaf, working(desk, standing()):
        for piece in slices:
            deaf.sendall(message(piece))
        while not desk.trace or desk.trace[-1] != slices[-1].id:
            time.sleep(0.001)
        desk.send(one)
        assert isinstance(desk.answers(1)[one.id], Scored)
        heard = [decode_from_worker(deaf.recv(MAX_FRAME)) for _ in range(1 + len(slices))]
        assert [answer.id for answer in heard if isinstance(answer, Scored)] == [piece.id for piece in slices]


def test_it_says_that_it_goes_on() -> None:
    desk = Desk()
    with working(desk, ticking()):
        desk.send(*desk.plain(1, 10))
        desk.answers(1)
        first = desk.board.read(0)
        ends = time.monotonic() + 10.0
        while desk.board.read(0).beat <= first.beat + 2 * IDLE_SECONDS:  # with nothing to do
            assert time.monotonic() < ends
            time.sleep(0.01)
        assert desk.board.read(0).answered == 1


def test_one_that_comes_to_err_ends() -> None:
    """It checks itself between two quanta, and answers nothing after it has found itself wrong."""
    desk = Desk()
    desk.kernel = HeardKernel(grids.BLOCK)
    worker = Worker(0, desk.kernel, desk.board, desk.worker_control, 20 * QUANTUM_SECONDS, ticking())
    desk.send(*desk.plain(1, 100))
    finish = desk.kernel._finish

    def wrong(*given: Any) -> Any:  # noqa: ANN401 -- whatever the kernel's takes and gives
        found, sums = finish(*given)
        return found._replace(losses=found.losses + 1e-9), sums

    def err() -> None:
        if len(desk.trace) == 30:
            desk.kernel._finish = wrong  # type: ignore[method-assign, assignment] # as a failing device would
        desk.trace.append(desk.running)

    desk.kernel.hear = err
    with pytest.raises(WrongAnswerError):
        worker.run()
    assert 30 < len(desk.trace) < 100
    assert isinstance(decode_from_worker(desk.link.recv(MAX_FRAME)), Ready)
    assert desk.link.recv(MAX_FRAME) == b""
    desk.link.close()
    desk.control.close()
    os.close(desk.arena_fd)


def alike(desk: Desk, count: int, *, seed: int = 0, team: str = "default", **params: Any) -> list[Slice]:  # noqa: ANN401 -- whatever request takes
    """Small requests of equal parameters and shapes."""
    rng = np.random.default_rng(seed)
    slices = []
    for number in range(count):
        arrays: dict[str, npt.NDArray[Any]] = {
            "logits": rng.normal(0, 4, (4, 9)).astype(np.float32),
            "targets": rng.random((4, 9)) < 0.3,
        }
        slices += desk.request(1000 * seed + number, arrays, team=team, **params)
    return slices


def test_small_requests_together_have_the_bits_that_they_have_alone() -> None:
    found = []
    for alone in (False, True):
        desk = Desk(large=True)
        first = desk.plain(9999, 1)
        slices = alike(desk, 40) + alike(desk, 10, seed=1, team="b") + alike(desk, 5, seed=2, gamma=3.0)
        slices = [msgspec.structs.replace(piece, alone=alone) for piece in slices]
        desk.send(*first, *slices)
        with working(desk, standing()):
            answers = desk.answers(1 + len(slices))
        together = [answer.together for answer in answers.values() if isinstance(answer, Scored)]
        assert sum(together) == len(answers) == len(together)
        assert (max(together) > 1) is not alone
        found.append(
            {
                key: msgspec.structs.replace(answer, seconds=0.0, together=0)
                for key, answer in answers.items()
                if isinstance(answer, Scored)
            }
        )
    assert found[0] == found[1]


def test_what_is_wrong_with_one_is_not_the_others_fault() -> None:
    desk = Desk(large=True)
    slices = alike(desk, 10)
    wrong = slices[4]
    targets = decode_recipe(wrong.recipe).tensors["targets"]
    desk.memory.view[targets.offset + 7] = 5
    late = msgspec.structs.replace(slices[6], deadline=-1.0)
    slices[6] = late
    desk.send(*desk.plain(9999, 1), *slices)
    with working(desk, standing()):
        answers = desk.answers(11)
    failed, expired = answers[wrong.id], answers[late.id]
    assert isinstance(failed, Failed)
    assert (failed.code, failed.errors[0][0]) == ("target_out_of_range", "/targets/0/7")
    assert isinstance(expired, Failed)
    assert expired.code == "deadline_exceeded"
    others = [answer for answer in answers.values() if isinstance(answer, Scored)]
    assert len(others) == 9
    assert sum(answer.together for answer in answers.values()) == 11


def test_those_together_are_all_on_the_board() -> None:
    desk = Desk(large=True)
    seen: list[list[int]] = []
    scored = desk.kernel.score_together

    def look(template: Work, pairs: Sequence[Pair]) -> list[Sums] | None:
        seen.append([slice_id for _, slice_id in desk.board.read(0).running])
        return scored(template, pairs)

    desk.kernel.score_together = look  # type: ignore[method-assign, assignment] # as the worker calls it
    slices = alike(desk, 8)
    desk.send(*desk.plain(9999, 1), *slices)
    with working(desk, standing()):
        desk.answers(9)
    assert [piece.id for piece in slices] in seen
    assert desk.board.read(0).answered == 9


def test_teams_that_are_served_together_pay_alike() -> None:
    """Requests of two teams of equal weight take turns, in a pass or not."""
    desk = Desk(large=True)
    first = alike(desk, 60, seed=1, team="a")
    second = alike(desk, 60, seed=2, team="b")
    desk.send(*desk.plain(9999, 1), *first, *second)
    with working(desk, stumbling(3)):
        order = list(desk.answers(121))
    of_first = {piece.id for piece in first}
    half = [slice_id in of_first for slice_id in order[1:61]]
    assert 20 <= sum(half) <= 40

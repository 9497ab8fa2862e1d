"""A worker in a thread, with a clock that is ours and a kernel that says what it scores."""

from __future__ import annotations

import itertools
import math
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import reference
from lossd.core.catalog import LOSSES
from lossd.core.cut import Cut
from lossd.core.kernel import Kernel, Sums, WrongAnswerError
from lossd.core.native.kernel import native_kernel
from lossd.core.parameters import check_params, reduced_axes
from lossd.core.prepare import Work
from lossd.engine.ipc.channel import MAX_MESSAGE_BYTES, socket_pair
from lossd.engine.ipc.heartbeats import Heartbeats, heartbeats_bytes
from lossd.engine.ipc.memory import Memory, create_memory
from lossd.engine.ipc.messages import (
    Answer,
    BatchSpec,
    Cancel,
    Cancelled,
    Failed,
    FromFrontEnd,
    FrontEndStarted,
    Ready,
    Scored,
    Slice,
    decode_from_worker,
    encode,
)
from lossd.engine.worker.main import IDLE_SECONDS, Worker
from lossd.types import Float64Array, Tensor

ELEMENTS = 64
ARENA = 1 << 22
FRONT_END = 3
TICK = 1e-3
Clock = Callable[[], float]


def ticking() -> Clock:
    """Each look at it is a millisecond later than the last."""
    return itertools.count(0.0, TICK).__next__


def _any_kernel() -> Kernel:
    native = native_kernel()
    if native is not None:
        return native
    from lossd.core.losses.kernel import TorchKernel

    return TorchKernel()


class HeardKernel:
    """Says before each slice that it is going to score one."""

    name = "heard"
    device = "cpu"

    def __init__(self) -> None:
        self.kernel = _any_kernel()
        self.hear: Callable[[Work], None] = lambda _: None
        self.error = 0.0

    def score(
        self,
        work: Work,
        base: memoryview | bytes,
        offset: int,
        index: int,
        memories: Sequence[Float64Array] = (),
        report: memoryview | None = None,
    ) -> Sums:
        self.hear(work)
        found = self.kernel.score(work, base, offset, index, memories, report)
        for memory in memories:
            memory += self.error
        return found


class Desk:
    """The places of the supervisor and of a front end: memory, and sockets to the worker.

    Attributes:
        trace: The id of each slice that was scored.
        events: What to send when so many slices have been scored.
    """

    def __init__(self) -> None:
        self.arena_fd = create_memory(ARENA)
        self.memory = Memory(self.arena_fd, ARENA)
        self.row = Heartbeats(create_memory(heartbeats_bytes(1, 1)), 1, 1).workers[0]
        self.control, self.worker_control = socket_pair()
        self.link = self.join(FRONT_END, self.arena_fd)
        self.kernel = HeardKernel()
        self.kernel.hear = self._hear
        self.trace: list[int] = []
        self.events: dict[int, list[FromFrontEnd]] = {}
        self._offset = 0
        self._ids = itertools.count(1)

    def join(self, number: int, arena_fd: int) -> socket.socket:
        """Introduce a front end; its end of the socket."""
        link, worker_link = socket_pair()
        with worker_link:
            message = encode(FrontEndStarted(number, ARENA))
            socket.send_fds(self.control, [message], [worker_link.fileno(), arena_fd])
        return link

    @property
    def running(self) -> int:
        """The slice that the worker says it is running."""
        return (self.row.read().running or (0, 0))[1]

    def send(self, *messages: FromFrontEnd) -> None:
        for message in messages:
            self.link.sendall(encode(message))

    def answers(self, count: int) -> dict[int, Answer]:
        found: dict[int, Answer] = {}
        while len(found) < count:
            message = decode_from_worker(self.link.recv(MAX_MESSAGE_BYTES))
            if not isinstance(message, Ready):
                found[message.id] = message
        return found

    def request(
        self,
        number: int,
        arrays: dict[str, npt.NDArray[Any]],
        *,
        loss: str = "bce",
        team: str = "default",
        weight: float = 1.0,
        deadline: float = math.inf,
        row: int = 0,
        **params: object,
    ) -> list[Slice]:
        """The slices of a request."""
        shape = arrays["logits"].shape
        checked = check_params(LOSSES[loss], params)
        cut = Cut(shape, reduced_axes(checked, shape), ELEMENTS)
        base = self._offset
        tensors = {
            name: Tensor(array.dtype.name, array.shape, self._lay(array) - base)
            for name, array in arrays.items()
        }
        batch = encode(BatchSpec(loss, checked, shape, cut.axes, ELEMENTS, tensors))
        return [
            Slice(
                id=next(self._ids),
                job=number,
                batch=batch,
                base=base,
                index=index,
                memories=[(self._lay(np.zeros(room)), room)] if (room := cut.most_numbers(index)) else [],
                deadline=deadline,
                row=row,
                team=team,
                weight=weight,
            )
            for index in range(cut.parts)
        ]

    def plain(self, number: int, count: int, **fields: Any) -> list[Slice]:  # noqa: ANN401 -- whatever request takes
        """A request of so many slices."""
        arrays: dict[str, npt.NDArray[Any]] = {
            "logits": np.ones(count * ELEMENTS, np.float32),
            "targets": np.zeros(count * ELEMENTS, np.uint8),
        }
        return self.request(number, arrays, **fields)

    def _lay(self, array: npt.NDArray[Any]) -> int:
        offset = self._offset
        self.memory.view[offset : offset + array.nbytes] = array.tobytes()
        self._offset += -(-array.nbytes // 64) * 64
        return offset

    def _hear(self, work: Work) -> None:
        if work.cut.elements != ELEMENTS:
            return  # a known answer
        self.trace.append(self.running)
        self.send(*self.events.pop(len(self.trace), ()))


@contextmanager
def working(desk: Desk, clock: Clock, check_seconds: float = math.inf) -> Iterator[None]:
    """Run a worker; it ends with the supervisor's end of the socket.

    What is to be there from the start is sent before.
    """
    worker = Worker(desk.kernel, desk.row, desk.worker_control, check_seconds, clock)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        yield
    finally:
        desk.control.close()
        thread.join()
        desk.link.close()
        os.close(desk.arena_fd)


def ids(slices: list[Slice]) -> set[int]:
    return {part.id for part in slices}


def test_slices_are_scored_where_they_lie() -> None:
    desk = Desk()
    rng = np.random.default_rng(1)
    x, y = rng.normal(0, 4, (5, 40)).astype(np.float32), rng.random((5, 40))
    summed = desk.request(1, {"logits": x, "targets": y}, reduction="sum")
    each = desk.request(2, {"logits": x, "targets": y}, reduction="none")
    desk.send(*summed, *each)
    with working(desk, ticking()):
        answers = desk.answers(len(summed) + len(each))
        places = [
            np.frombuffer(desk.memory.view, np.float64, count, offset)
            for part in each
            for offset, count in part.memories
        ]
        found = np.concatenate(places).reshape(x.shape)
    terms: list[float] = []
    for part in summed:
        answer = answers[part.id]
        assert isinstance(answer, Scored)
        assert answer.planes == []
        terms += answer.sum
    assert math.fsum(terms) == math.fsum(found.ravel().tolist())
    assert all(
        loss == pytest.approx(float(reference.bce(float(logit), float(target))), rel=1e-15)
        for loss, logit, target in zip(found.ravel(), x.ravel(), y.ravel(), strict=True)
    )


def test_another_teams_request_waits_for_a_slice() -> None:
    desk = Desk()
    large = desk.plain(1, 100, team="a")
    (small,) = desk.plain(2, 1, team="b")
    desk.events[3] = [small]
    desk.send(*large)
    with working(desk, ticking()):
        desk.answers(101)
        assert desk.trace.index(small.id) == 3
        ends = time.monotonic() + 10.0
        while desk.running:
            assert time.monotonic() < ends


def test_requests_of_a_team_take_turns() -> None:
    desk = Desk()
    large, small = desk.plain(1, 100), desk.plain(2, 2)
    desk.events[10] = [*small]
    desk.send(*large)
    with working(desk, ticking()):
        desk.answers(102)
    assert [slice_id in ids(small) for slice_id in desk.trace[9:14]] == [False, True, False, True, False]


def test_teams_have_time_by_weight() -> None:
    desk = Desk()
    one = desk.plain(1, 100, team="a", weight=1.0)
    three = desk.plain(2, 100, team="b", weight=3.0)
    desk.send(*one, *three)
    with working(desk, ticking()):
        desk.answers(200)
    served = Counter(slice_id in ids(three) for slice_id in desk.trace[10:90])
    assert served[True] == pytest.approx(3 * served[False], abs=4)


def test_the_deadline_is_looked_at_before_each_slice() -> None:
    desk = Desk()
    late = desk.plain(1, 30, deadline=20 * TICK)
    other = desk.plain(2, 30)
    desk.send(*late, *other)
    with working(desk, ticking()):
        answers = desk.answers(60)
    assert all(isinstance(answers[slice_id], Scored) for slice_id in ids(other))
    failed = [answer for answer in answers.values() if isinstance(answer, Failed)]
    assert {answer.code for answer in failed} == {"deadline_exceeded"}
    assert 20 <= len(failed) <= 29
    assert not {answer.id for answer in failed} & set(desk.trace)


def test_a_cancelled_request_is_answered_at_once() -> None:
    desk = Desk()
    ended, other = desk.plain(1, 100), desk.plain(2, 20)
    desk.events[6] = [Cancel(1), Cancel(99)]
    desk.send(*ended, *other)
    with working(desk, ticking()):
        answers = desk.answers(120)
    cancelled = [answer for answer in answers.values() if isinstance(answer, Cancelled)]
    assert {answer.id for answer in cancelled} < ids(ended)
    assert len(cancelled) >= 94
    assert not {answer.id for answer in cancelled} & set(desk.trace)


def test_what_is_wrong_in_a_slice_fails_it_alone() -> None:
    desk = Desk()
    arrays = {"logits": np.ones((10, ELEMENTS)), "targets": np.zeros((10, ELEMENTS))}
    arrays["targets"][7, 3] = 2.0
    wrong = desk.request(1, arrays, row=1000)
    right = desk.plain(2, 30)
    desk.send(*wrong, *right)
    with working(desk, ticking()):
        answers = desk.answers(40)
    (failed,) = (answer for answer in answers.values() if isinstance(answer, Failed))
    assert failed.id == wrong[7].id
    assert failed.code == "target_out_of_range"
    assert failed.errors[0][0] == "/targets/1007/3"  # rows of a stream that had 1,000 before


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MemoryError(), "out_of_memory"),
        (type("OutOfMemoryError", (RuntimeError,), {})(), "out_of_memory"),
        (ArithmeticError(), "internal_error"),
    ],
)
def test_what_goes_wrong_with_a_slice_fails_it_alone(error: Exception, code: str) -> None:
    desk = Desk()
    wrong, right = desk.plain(1, 1), desk.plain(2, 1)

    def fail(work: Work) -> None:
        if work.cut.elements == ELEMENTS and desk.running == wrong[0].id:
            raise error

    desk.kernel.hear = fail
    desk.send(*wrong, *right)
    with working(desk, ticking()):
        answers = desk.answers(2)
    failed = answers[wrong[0].id]
    assert isinstance(failed, Failed)
    assert failed.code == code
    assert isinstance(answers[right[0].id], Scored)


def test_a_poisoned_device_is_not_used_again() -> None:
    desk = Desk()
    desk.send(*desk.plain(1, 1))
    poison = type("AcceleratorError", (RuntimeError,), {})

    def fail(_: Work) -> None:
        raise poison

    desk.kernel.hear = fail
    worker = Worker(desk.kernel, desk.row, desk.worker_control, math.inf)
    with pytest.raises(poison):
        worker.run()
    assert desk.row.read().running == (FRONT_END, 1)
    desk.link.close()
    desk.control.close()
    os.close(desk.arena_fd)


def test_front_ends_come_and_go() -> None:
    """Each is answered alone; what one that is gone still wanted is not computed."""
    desk = Desk()
    gone = desk.plain(1, 300)
    other = desk.plain(1, 5)  # of another front end, whose numbers are the same
    late = desk.join(4, desk.arena_fd)

    def hear(work: Work) -> None:
        desk.trace.append(desk.running)
        if len(desk.trace) == 10:
            for part in other:
                late.sendall(encode(part))
            desk.link.close()

    desk.kernel.hear = hear
    desk.send(*gone)
    with late, working(desk, ticking()):
        assert isinstance(decode_from_worker(late.recv(MAX_MESSAGE_BYTES)), Ready)
        for part in other:
            answer = decode_from_worker(late.recv(MAX_MESSAGE_BYTES))
            assert isinstance(answer, Scored)
            assert answer.id == part.id
    assert len(desk.trace) == 10 + len(other)


def test_a_front_end_that_does_not_listen_holds_up_nobody() -> None:
    desk = Desk()
    deaf = desk.join(4, desk.arena_fd)
    slices, one = desk.plain(1, 3000), desk.plain(2, 1)
    with deaf, working(desk, ticking()):
        for part in slices:
            deaf.sendall(encode(part))
        while not desk.trace or desk.trace[-1] != slices[-1].id:
            time.sleep(0.001)
        desk.send(*one)
        assert isinstance(desk.answers(1)[one[0].id], Scored)
        heard = [decode_from_worker(deaf.recv(MAX_MESSAGE_BYTES)) for _ in range(1 + len(slices))]
        assert [answer.id for answer in heard if isinstance(answer, Scored)] == [part.id for part in slices]


def test_it_says_that_it_goes_on() -> None:
    desk = Desk()
    with working(desk, ticking()):
        desk.send(*desk.plain(1, 10))
        desk.answers(10)
        first = desk.row.read()
        ends = time.monotonic() + 10.0
        while desk.row.read().beat <= first.beat + 2 * IDLE_SECONDS:  # with nothing to do
            assert time.monotonic() < ends
            time.sleep(0.01)
        assert desk.row.read().answered == 10


def test_one_that_comes_to_err_ends() -> None:
    """It checks itself between two slices, and answers nothing after it has found itself wrong."""
    desk = Desk()
    worker = Worker(desk.kernel, desk.row, desk.worker_control, 20 * TICK, ticking())
    desk.send(*desk.plain(1, 100))

    def hear(work: Work) -> None:
        if work.cut.elements == ELEMENTS:
            desk.trace.append(desk.running)
        if len(desk.trace) == 30:
            desk.kernel.error = 1e-9  # as a failing device would have

    desk.kernel.hear = hear
    with pytest.raises(WrongAnswerError):
        worker.run()
    assert 30 <= len(desk.trace) < 100
    heard = []
    while data := desk.link.recv(MAX_MESSAGE_BYTES):
        heard.append(decode_from_worker(data))
    assert len(heard) == 1 + len(desk.trace)
    desk.link.close()
    desk.control.close()
    os.close(desk.arena_fd)

"""Counts what a call has done, for the progress callback."""

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from queue import SimpleQueue
from typing import Generic, NamedTuple, TypeVar

from lossd_client._http.attempts import Wait
from lossd_client.progress import Progress

ResultT = TypeVar("ResultT")


class Meter:
    """Counts what was answered, and says what is waited for.

    Args:
        show: The callback, if there is one.
        total_rows: Rows that there are, if that is known.
    """

    def __init__(self, show: Callable[[Progress], None] | None, total_rows: int | None) -> None:
        self._show = show
        self._so_far = Progress(0, total_rows, 0, 0)
        self._waits: dict[int, Wait] = {}  # by request
        self._awaited: int | None = None

    @property
    def is_shown(self) -> bool:
        """Whether anybody is told."""
        return self._show is not None

    def add(self, rows: int, elements: int, requests: int = 1) -> None:
        """Count what was answered."""
        if self._show is None:
            return
        was = self._so_far
        self._so_far = Progress(
            was.rows + rows, was.total_rows, was.elements + elements, was.requests + requests
        )
        self._show(self._so_far)

    def note_wait(self, wait: Wait, request: int | None = None) -> None:
        """Note that a request waits, and say so if it is the one that is awaited.

        Args:
            wait: The wait.
            request: Its number; None for a call of one request.
        """
        if request is not None:
            self._waits[request] = wait
        if request == self._awaited:
            self._show_wait(wait)

    def await_request(self, request: int) -> None:
        """Note which request is awaited, and say so if it waits: others may be answered meanwhile."""
        if self._awaited is not None:
            self._waits.pop(self._awaited, None)
        self._awaited = request
        if request in self._waits:
            self._show_wait(self._waits[request])

    def _show_wait(self, wait: Wait) -> None:
        left = wait.left
        if left > 0 and self._show is not None:
            self._show(replace(self._so_far, resumes_in=left, reason=wait.reason))


class Scored(NamedTuple, Generic[ResultT]):
    """A request that a thread sends: its number, and its result to come."""

    number: int
    future: Future[ResultT]


class WaitRelay:
    """Brings the waits of requests from the threads that send them to the one that calls the callback.

    Args:
        meter: The call's meter.
    """

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._queue: SimpleQueue[tuple[Wait, int] | None] = SimpleQueue()  # None: a request is done

    def listener(self, number: int) -> Callable[[Wait], None]:
        """Return what the thread of a request calls before it waits."""
        return lambda wait: self._queue.put((wait, number))

    def scored(self, number: int, future: Future[ResultT]) -> Scored[ResultT]:
        """Return a request, given its number and its result to come."""
        if self._meter.is_shown:
            future.add_done_callback(lambda _: self._queue.put(None))
        return Scored(number, future)

    def result_of(self, scored: Scored[ResultT]) -> ResultT:
        """Return a request's result. Until it is there, tell the meter what it waits for."""
        self._meter.await_request(scored.number)
        while self._meter.is_shown and not scored.future.done():
            told = self._queue.get()
            if told is not None:
                self._meter.note_wait(*told)
        return scored.future.result()

"""Threads of one call, which can be cancelled while they wait for the network.

At exit, the interpreter waits for the threads of concurrent.futures. These are daemons.
"""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from typing import Final, Generic, TypeVar

ResultT = TypeVar("ResultT")

_JOIN_SECONDS: Final = 2.0  # a thread that was called off while it connects takes as long as that


class Cancellation:
    """Cancels some threads, and wakes those that wait for a socket."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._held: set[socket.socket] = set()

    @property
    def is_set(self) -> bool:
        """Whether the threads are cancelled."""
        return self._event.is_set()

    def set(self) -> None:
        """Cancel the threads."""
        with self._lock:  # a socket that is not held any more may be another thread's
            self._event.set()
            for each in self._held:
                with suppress(OSError):
                    socket.socket.shutdown(each, socket.SHUT_RDWR)  # a TLS socket's own is for its owner

    def pause(self, seconds: float) -> None:
        """Wait.

        Raises:
            CancelledError: The thread was cancelled meanwhile.
        """
        if self._event.wait(seconds):
            raise CancelledError

    @contextmanager
    def holding(self, own: socket.socket) -> Iterator[None]:
        """Shut the socket down if the threads are cancelled while the block lasts.

        Raises:
            CancelledError: The thread was cancelled.
        """
        with self._lock:
            if self.is_set:
                raise CancelledError
            self._held.add(own)
        try:
            yield
        finally:
            with self._lock:
                self._held.discard(own)
        if self.is_set:
            raise CancelledError


class _Own(threading.local):
    cancellation: Cancellation | None = None


_own = _Own()


def own_cancellation() -> Cancellation | None:
    """Return the cancellation of the present thread; None if it is not one of these."""
    return _own.cancellation


class Workers(Generic[ResultT]):
    """Threads that run tasks in the order in which they are submitted.

    Args:
        number: The largest number of threads.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._tasks: SimpleQueue[tuple[Future[ResultT], Callable[[], ResultT]] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._cancellation = Cancellation()

    def submit(self, task: Callable[[], ResultT]) -> Future[ResultT]:
        """Submit a task and return the future of its result."""
        future: Future[ResultT] = Future()
        self._tasks.put((future, task))
        if len(self._threads) < self._number:
            name = f"lossd_{len(self._threads)}"
            self._threads.append(threading.Thread(target=self._work, name=name, daemon=True))
            self._threads[-1].start()
        return future

    def close(self, *, at_once: bool) -> None:
        """End the threads, at once or when all tasks are done."""
        if at_once:
            self._cancellation.set()
        for _ in self._threads:
            self._tasks.put(None)
        ends = time.monotonic() + _JOIN_SECONDS
        for each in self._threads:
            each.join(max(0.0, ends - time.monotonic()))

    def _work(self) -> None:
        _own.cancellation = self._cancellation
        while (item := self._tasks.get()) is not None and not self._cancellation.is_set:
            future, task = item
            try:
                future.set_result(task())
            except BaseException as error:  # raised where the result is asked for
                future.set_exception(error)
            del item, future, task  # they would hold a request's arrays while this waits

"""`--engine local`: tasks in processes of this machine, one a core."""

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import Final

from lossd_client.cli.engines.engine import DoneT, TaskT
from lossd_client.cli.exits import EngineFailed

_AHEAD: Final = 2
"""Tasks for each process that are handed out before the first of them must be done."""


class Processes:
    """Processes of this machine.

    Args:
        executor: The processes.
        number: How many.
    """

    def __init__(self, executor: ProcessPoolExecutor, number: int) -> None:
        self._executor, self._number = executor, number

    @property
    def shown(self) -> str:
        """The engine, for people."""
        return f"local, {self._number} process{'es' if self._number > 1 else ''}"

    def map(self, run: Callable[[TaskT], DoneT], tasks: Sequence[TaskT]) -> Iterator[DoneT]:
        """Yield what `run` returns for each task, in their order."""
        out: deque[Future[DoneT]] = deque()
        left = iter(tasks)
        try:
            while True:
                while len(out) < _AHEAD * self._number and (task := next(left, None)) is not None:
                    out.append(self._executor.submit(run, task))
                if not out:
                    return
                yield out.popleft().result()
        except BrokenProcessPool as error:
            raise EngineFailed(
                "a process of --engine local was killed, perhaps since memory ran out: each holds some ten "
                "blocks of 8 MiB, so run on a larger machine, or with fewer cores (taskset -c 0-3)"
            ) from error


@contextmanager
def processes(number: int) -> Iterator[Processes]:
    """Yield processes, which end when they are no longer wanted, or when this process is gone."""
    _start_tracker()
    heard, held = multiprocessing.Pipe(duplex=False)
    executor = ProcessPoolExecutor(
        number, multiprocessing.get_context("spawn"), initializer=_end_with, initargs=(heard,)
    )
    try:
        yield Processes(executor, number)
    finally:
        held.close()
        executor.shutdown(cancel_futures=True)
        heard.close()


def _start_tracker() -> None:
    """Start Python's process that clears up semaphores. After a signal that is meant: it need not warn."""
    sys.warnoptions.append("ignore:resource_tracker")
    try:
        resource_tracker.ensure_running()
    finally:
        sys.warnoptions.pop()


def _end_with(heard: Connection) -> None:
    """End this process when the other end of a pipe is closed. Ctrl-C is for the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        try:
            heard.poll(None)
        finally:
            os._exit(0)

    threading.Thread(target=watch, name="parent", daemon=True).start()

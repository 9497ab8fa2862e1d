"""Repeated requests over several connections, and their times."""

import math
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from lossd_client import LossdError, Request, StatusError, Timeout, Transport
from lossd_client._http.problems import status_error

_NEEDED: Final = {50: 1, 95: 20, 99: 100}  # the fewest times that a percentile needs


@dataclass(slots=True)
class Measured:
    """The times of one load.

    Attributes:
        wall: The seconds it took, from the first request sent to the last answer.
        times: The seconds that each answered request took, as its caller saw it.
        refused: The number of requests refused by a busy server; other errors end the load.
    """

    wall: float = 0.0
    times: list[float] = field(default_factory=list)
    refused: int = 0

    def percentile(self, percent: int) -> float | None:
        """Return a percentile of the times, in seconds; None for too few requests."""
        ordered = sorted(self.times)
        if len(ordered) < _NEEDED[percent]:
            return None
        return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def measure(
    transport: Transport, request: Request, seconds: float, connections: int, timeout: Timeout
) -> Measured:
    """Send the request for so long, `connections` at a time.

    Raises:
        LossdError: One failed for another reason than that the server is busy.
    """
    _send(transport, request, timeout)  # a warm-up
    found, lock = Measured(), threading.Lock()
    start = time.perf_counter()
    ends = start + seconds
    failed = threading.Event()

    def caller() -> None:
        while time.perf_counter() < ends and not failed.is_set():
            began = time.perf_counter()
            try:
                busy = _send(transport, request, timeout)
            except LossdError:
                failed.set()
                raise
            took = time.perf_counter() - began
            with lock:
                if busy is None:
                    found.times.append(took)
                else:
                    found.refused += 1
            if busy is not None:
                failed.wait(min(busy.retry_after or 0.1, max(0.0, ends - time.perf_counter())))

    with ThreadPoolExecutor(connections) as pool:
        callers = [pool.submit(caller) for _ in range(connections)]
    found.wall = time.perf_counter() - start
    _raise_first([one.exception() for one in callers])
    return found


def _raise_first(errors: Sequence[BaseException | None]) -> None:
    for error in errors:
        if error is not None:
            raise error


def _send(transport: Transport, request: Request, timeout: Timeout) -> StatusError | None:
    """Send the request once, and return a busy server's error.

    Raises:
        LossdError: It failed.
    """
    answer = transport.send(request, timeout)
    if answer.status == 200:
        return None
    error = status_error(answer)
    if error.retryable:
        return error
    raise error

"""Callers who send without a pause, and check every answer's bits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from lossd_client import LossClient, LossdError, Retry

RNG = np.random.default_rng(20)
SIZES = ((32, 80), (2000, 80))  # scored in place, and by a worker
CALLERS = 3


@dataclass
class Outcome:
    """What callers have seen.

    Attributes:
        answered: Requests that were answered.
        wrong: How many of them with other bits than asked for.
        failures: What the others were told.
    """

    answered: int = 0
    wrong: int = 0
    failures: list[str] = field(default_factory=list)


def pairs() -> list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
    return [
        (RNG.normal(size=shape).astype(np.float32), (RNG.random(shape) < 0.1).astype(np.float32))
        for shape in SIZES
    ]


PAIRS = pairs()


def truth(url: str) -> list[float]:
    """The losses that a lossd server gives."""
    with LossClient(url) as client:
        return [float(client.focal(*pair).loss) for pair in PAIRS]


@contextmanager
def under_load(url: str, expected: list[float], retry: Retry | None) -> Iterator[Outcome]:
    """Send requests meanwhile."""
    outcome, over, lock = Outcome(), threading.Event(), threading.Lock()

    def count(change: Callable[[], None]) -> None:
        with lock:
            change()

    def send() -> None:
        with LossClient(url, retry=retry) as client:
            while not over.is_set():
                for pair, right in zip(PAIRS, expected, strict=True):
                    try:
                        loss = float(client.focal(*pair).loss)
                    except LossdError as error:
                        text = f"{type(error).__name__}: {error}"
                        count(lambda text=text: outcome.failures.append(text))  # type: ignore[misc]
                        continue
                    with lock:
                        outcome.answered += 1
                        outcome.wrong += loss != right

    callers = [threading.Thread(target=send) for _ in range(CALLERS)]
    for caller in callers:
        caller.start()
    try:
        yield outcome
    finally:
        over.set()
        for caller in callers:
            caller.join()

"""Whether a client's server is away, and when it is asked again."""

import threading
import time
from datetime import UTC, datetime
from enum import IntEnum
from typing import Final
from weakref import WeakKeyDictionary

from lossd_client._http.logs import logger
from lossd_client._warning import warn
from lossd_client.client import LossClient
from lossd_client.errors import (
    BadAnswer,
    InvalidRequest,
    LossdError,
    NotFound,
    StatusError,
    Throttled,
    TooLarge,
    Unauthorized,
)

REFUSALS: Final = (InvalidRequest, NotFound, TooLarge, Unauthorized)
"""Errors of a call that would be refused again."""

NOT_AGAIN: Final = frozenset({"out_of_memory", "worker_crashed"})
"""The codes of a call that would do the same harm again."""

_SHORTEST: Final = 1.0  # seconds between two routine attempts, doubled each time
_LONGEST: Final = 30.0
_PATIENCE: Final = 60.0  # seconds between attempts that have the client's own retries, which take as long
_PAUSE: Final = 4.0  # times the length of the last attempt: a server that hangs costs a fifth of the time
_CHEAP: Final = 1.0  # seconds; an attempt that took less needs no such pause


class Urgency(IntEnum):
    """How much an answer is wanted while the server is away.

    Attributes:
        ROUTINE: Ask when the next attempt is due.
        SOON: Ask at once, unless the last attempt took long.
        PATIENT: As SOON, and with the client's own retries, once a minute at most.
    """

    ROUTINE = 0
    SOON = 1
    PATIENT = 2


class Outage:
    """Whether the server is away, as all that share a client's connections know it.

    One of them asks the server again. If that fails, all wait until the next attempt is due.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._has_answered = False
        self._wait: float | None = None  # between two routine attempts; None while the server answers
        self._due = dict.fromkeys(Urgency, 0.0)  # by time.monotonic()

    def probe(self, client: LossClient, urgency: Urgency) -> LossClient | None:
        """Return the client to ask the server with now, perhaps one without retries; None to wait longer."""
        with self._lock:
            if self._wait is None:
                return client
            now = time.monotonic()
            is_patient = urgency is Urgency.PATIENT and now >= self._due[urgency]
            if not is_patient and now < self._due[min(urgency, Urgency.SOON)]:
                return None
            if is_patient:
                self._due[urgency] = now + _PATIENCE
            if now >= self._due[Urgency.ROUTINE]:
                self._wait = min(2 * self._wait, _LONGEST)
            self._due[Urgency.ROUTINE] = now + self._wait  # for others, until this attempt is over
        return client if is_patient else client.with_options(retry=None)

    def succeeded(self) -> None:
        """Note that the server answered."""
        with self._lock:
            was_away, self._wait, self._has_answered = self._wait is not None, None, True
        if was_away:
            logger.info("the server answers again")

    def failed(self, error: LossdError, took: float) -> None:
        """Note an attempt that failed after some seconds; the first is warned of."""
        pause = _PAUSE * took if took > _CHEAP else 0.0
        pause = max(pause, min(getattr(error, "retry_after", None) or 0.0, _LONGEST))
        with self._lock:
            now, is_first = time.monotonic(), self._wait is None
            self._wait = self._wait or _SHORTEST
            if is_first:
                self._due[Urgency.PATIENT] = now + _PATIENCE
            self._due[Urgency.ROUTINE] = now + max(self._wait, pause)
            self._due[Urgency.SOON] = now + pause
            self._due[Urgency.PATIENT] = max(self._due[Urgency.PATIENT], now + pause)
        if is_first:
            what = "requests are throttled" if isinstance(error, Throttled) else "the server is away"
            warn(
                f"{what} since {datetime.now(UTC):%H:%M:%S} UTC, and batches are kept and sent later: {error}"
            )

    def ask_at_once(self) -> None:
        """Let the next one ask, as if no attempt had failed."""
        with self._lock:
            self._due = dict.fromkeys(Urgency, 0.0)

    def explains(self, error: LossdError) -> bool:
        """Return whether an error means that the server is away, and is no answer to the call.

        An answer of another server, such as a proxy's page, means so once a lossd server has answered. Before
        that, the address is wrong.
        """
        if is_foreign(error):
            return self._has_answered
        if isinstance(error, REFUSALS) or error.code in NOT_AGAIN:
            if error.code is not None:
                self.succeeded()
            return False
        return True


_OUTAGES: WeakKeyDictionary[object, Outage] = WeakKeyDictionary()


def outage_of(client: LossClient) -> Outage:
    """Return the outage that is known to all with the client's connections."""
    return _OUTAGES.setdefault(client._connections, Outage())


def is_foreign(error: LossdError) -> bool:
    """Return whether an answer is not a lossd server's: another page, a redirect, a 404 of a proxy."""
    is_other_status = type(error) in (StatusError, NotFound) and error.code is None
    return isinstance(error, BadAnswer) or is_other_status

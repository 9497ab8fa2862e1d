"""Calls that wait while the server is away: with `on_error="warn"`, of metrics and of callbacks.

A call that no server answered is kept, and sent later as it was given, so its answer has the bits that it
would have had. What the server refuses is no outage, and is raised.
"""

import logging
import os
import pickle
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeAlias
from weakref import WeakKeyDictionary

from lossd_client._calls.calls import CheckedCall
from lossd_client.client import LossClient
from lossd_client.errors import InvalidRequest, LossdError, NotFound, TooLarge, Unauthorized
from lossd_client.result import LossResult

OnError: TypeAlias = Literal["raise", "warn"]
"""Whether an error of the network or of the server is raised, or the batch is kept and sent later."""

KEEP_BYTES: Final = 1 << 30
"""How many bytes of batches are kept, unless told otherwise."""

_IN_MEMORY: Final = 32 << 20  # bytes; what is kept beyond them lies in a file
_REFUSALS: Final = (InvalidRequest, NotFound, TooLarge, Unauthorized)
_NOT_AGAIN: Final = frozenset({"out_of_memory", "worker_crashed"})  # it would do the same harm again
_SHORTEST, _LONGEST = 1.0, 30.0  # seconds between attempts of an outage
_PATIENCE: Final = 60.0  # seconds between those that have the client's own retries

logger = logging.getLogger("lossd_client")


def checked_on_error(on_error: str) -> bool:
    """Return whether batches are kept.

    Raises:
        ValueError: It is neither "raise" nor "warn".
    """
    if on_error not in ("raise", "warn"):
        raise ValueError(f"on_error must be 'raise' or 'warn', and is {on_error!r}")
    return on_error == "warn"


class _Outage:
    """Whether the server is away, as all that share a client's connections know it."""

    def __init__(self) -> None:
        self.is_on = False
        self._wait = _SHORTEST
        self._next = self._next_patient = 0.0  # by time.monotonic()

    @property
    def is_due(self) -> bool:
        """Whether the server may be asked again."""
        return not self.is_on or time.monotonic() >= self._next

    def takes_patience(self) -> bool:
        """Return whether an attempt may have the client's own retries, which take up to a minute."""
        now = time.monotonic()
        if self.is_on and now < self._next_patient:
            return False
        self._next_patient = now + _PATIENCE
        return True

    def failed(self, error: LossdError, took: float) -> None:
        """Note an attempt that failed; the first is warned of."""
        was_on, was_due = self.is_on, self.is_due
        self.is_on = True
        if not was_on:
            self._wait = _SHORTEST
        elif was_due:
            self._wait = min(2 * self._wait, _LONGEST)
        self._next = time.monotonic() + max(self._wait, 4 * took)
        if not was_on:
            self._next_patient = time.monotonic() + _PATIENCE
            warnings.warn(
                f"the server is away since {datetime.now(UTC):%H:%M:%S} UTC, and batches are kept until it "
                f"answers again: {error}",
                stacklevel=2,
            )

    def over(self) -> None:
        """Note that the server answered."""
        if self.is_on:
            logger.info("the server answers again")
        self.is_on = False


_OUTAGES: WeakKeyDictionary[object, _Outage] = WeakKeyDictionary()


class _File:
    """A temporary file without a name, which ends with the process however that ends."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="lossd-")  # noqa: SIM115 - open as long as it holds any
        self.pid = os.getpid()
        self.end = 0
        self.held = 0

    def __del__(self) -> None:
        self._file.close()  # else Python warns that it was not

    def append(self, data: bytes) -> int:
        """Write data behind the rest and return where it is."""
        start, rest = self.end, memoryview(data)
        while rest:  # by place: a fork shares the file's position
            rest = rest[os.pwrite(self._file.fileno(), rest, self.end + len(data) - len(rest)) :]
        self.end += len(data)
        self.held += 1
        return start

    def read(self, start: int, size: int) -> bytes:
        """Return data that was written."""
        data = bytearray()
        while len(data) < size:
            data += os.pread(self._file.fileno(), size - len(data), start + len(data))
        return bytes(data)


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """A call that is kept.

    Attributes:
        rows: How many rows it has.
        tag: What its owner knows it by.
        size: Its bytes.
        place: These bytes, or the file that they are in, and where.
    """

    rows: int
    tag: Any
    size: int
    place: bytes | tuple[_File, int]

    @property
    def data(self) -> bytes:
        """The call, pickled."""
        if isinstance(self.place, bytes):
            return self.place
        file, start = self.place
        return file.read(start, self.size)

    def call(self) -> CheckedCall:
        """Return the call."""
        call: CheckedCall = pickle.loads(self.data)  # noqa: S301 - no other process can write these bytes
        return call


class Room:
    """The bytes that may be kept, by one outbox or several: in memory first, then in a temporary file."""

    def __init__(self, limit: int = KEEP_BYTES) -> None:
        self._limit = limit
        self._in_memory = 0
        self._file: _File | None = None

    def __getstate__(self) -> int:
        return self._limit

    def __setstate__(self, limit: int) -> None:
        self.__init__(limit)  # type: ignore[misc] # a copy is empty: who keeps something puts it in

    def put(self, data: bytes) -> bytes | tuple[_File, int] | None:
        """Return where data is now; None if there is no room."""
        if self._file is not None and self._file.pid != os.getpid():
            self._file = None  # the parent's, since a fork
        in_file = 0 if self._file is None else self._file.end
        if self._in_memory + in_file + len(data) > self._limit:
            return None
        if self._in_memory + len(data) <= _IN_MEMORY:
            self._in_memory += len(data)
            return data
        try:
            self._file = self._file or _File()
            return self._file, self._file.append(data)
        except OSError as error:  # the disk is full, say
            logger.warning("a batch cannot be kept in a temporary file: %s", error)
            return None

    def free(self, kept: Kept) -> None:
        """Give back what is no longer kept. A file's bytes come back when it holds nothing."""
        if isinstance(kept.place, bytes):
            self._in_memory -= kept.size
            return
        file, _ = kept.place
        file.held -= 1
        if not file.held and file is self._file:
            self._file = None


class Outbox:
    """Calls of one owner that wait for the server, in order.

    Copied or unpickled, it holds copies of the same calls.

    Args:
        client: What sends them.
        room: Where they are kept.
    """

    def __init__(self, client: LossClient, room: Room) -> None:
        self._client = client
        self._room = room
        self._kept: list[Kept] = []
        self.lost = 0  # calls that were not kept, and are not sent again

    def __getstate__(self) -> dict[str, Any]:
        kept = [(each.rows, each.tag, each.data) for each in self._kept]
        return {"client": self._client, "room": self._room, "kept": kept, "lost": self.lost}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["client"], state["room"])  # type: ignore[misc] # as new, and then filled
        self.lost = state["lost"]
        for rows, tag, data in state["kept"]:
            self._kept.append(Kept(rows, tag, len(data), self._room.put(data) or data))

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def rows(self) -> int:
        """How many rows are kept."""
        return sum(each.rows for each in self._kept)

    def score(self, call: CheckedCall, tag: object = None, *, keeps: bool = True) -> LossResult | None:
        """Return the answer to a call; None if the server is away, and then the call is kept.

        Args:
            call: The call.
            tag: What its owner knows it by.
            keeps: Whether it is kept; if not, its owner has it elsewhere.

        Raises:
            LossdError: The server refuses the call.
        """
        try:
            result = self._ask(call)
        except LossdError as error:
            if isinstance(error, _REFUSALS):
                raise
            if error.code in _NOT_AGAIN:
                self._lose(str(error))
                return None
            result = None
        if result is None and keeps:
            self._keep(call, tag)
        return result

    def send(
        self, add: Callable[[Kept, LossResult | None], None], *, now: bool = False, patient: bool = False
    ) -> LossdError | None:
        """Send what is kept, as far as the server answers.

        Args:
            add: Takes each call, which is no longer kept afterwards, and its answer; None if it is refused.
            now: Ask the server even if it was asked a moment ago.
            patient: Ask with the client's own retries, if that was not done in the last minute.

        Returns:
            The first refusal.
        """
        refused: LossdError | None = None
        for kept in tuple(self._kept):
            try:
                result = self._ask(kept.call(), now=now, patient=patient)
            except LossdError as error:
                if error.code in _NOT_AGAIN:
                    self._lose(str(error))
                    self._remove(kept)
                    continue
                if not isinstance(error, _REFUSALS):
                    break
                error.add_note("It is of a batch that was kept while the server was away, and is left out.")
                refused = refused or error
                result = None
            else:
                if result is None:
                    break
            add(kept, result)
            self._remove(kept)
        return refused

    def extend(self, other: "Outbox") -> None:
        """Keep what another one keeps, too, without its tags."""
        for each in other._kept:
            self._put(each.rows, None, each.data)

    def cut(self, length: int) -> None:
        """Forget all but the first calls."""
        for kept in self._kept[length:]:
            self._remove(kept)

    def _ask(self, call: CheckedCall, *, now: bool = False, patient: bool = False) -> LossResult | None:
        """Ask the server; return None without asking if it was away a moment ago."""
        outage = _OUTAGES.setdefault(self._client._connections, _Outage())
        if not (now or outage.is_due):
            return None
        client, began = self._client, time.monotonic()
        if outage.is_on and not (patient and outage.takes_patience()):
            client = client.with_options(retry=None)
        try:
            result = client._score_plan(client._plan(call))
        except LossdError as error:
            if isinstance(error, _REFUSALS) or error.code in _NOT_AGAIN:
                outage.over()
            else:
                outage.failed(error, time.monotonic() - began)
            raise
        outage.over()
        return result

    def _keep(self, call: CheckedCall, tag: object) -> None:
        self._put(call.rows, tag, pickle.dumps(call, protocol=5))

    def _put(self, rows: int, tag: object, data: bytes) -> None:
        place = self._room.put(data)
        if place is None:
            self._lose("there is no room for it: give keep_bytes more")
        else:
            self._kept.append(Kept(rows, tag, len(data), place))

    def _lose(self, reason: str) -> None:
        self.lost += 1
        warnings.warn(f"a batch is lost, {self.lost} by now: {reason}", stacklevel=2)

    def _remove(self, kept: Kept) -> None:
        self._kept.remove(kept)
        self._room.free(kept)

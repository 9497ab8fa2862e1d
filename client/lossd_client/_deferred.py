"""Calls that wait while the server is away: with `on_error="warn"`, of metrics and of callbacks.

A call that no server answered is kept, and sent later as it was given, so its answer has the bits that it
would have had. What the server refuses is no outage, and is raised.
"""

import operator
import os
import pickle
import tempfile
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from lossd_client._calls.calls import CheckedCall
from lossd_client._outage import NOT_AGAIN, Urgency, is_foreign, outage_of
from lossd_client._warning import warn
from lossd_client.client import LossClient
from lossd_client.errors import LossdError
from lossd_client.result import LossResult

OnError: TypeAlias = Literal["raise", "warn"]
"""Whether an error of the network or of the server is raised, or the batch is kept and sent later."""

KEEP_BYTES: Final = 1 << 30
"""How many bytes of batches are kept, unless told otherwise."""

_IN_MEMORY: Final = 32 << 20  # bytes; what is kept beyond them lies in a file


class _File:
    """A temporary file without a name, which ends with the process however that ends."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="lossd-")  # noqa: SIM115 - open as long as it holds any
        weakref.finalize(self, self._file.close)  # else Python warns that it was not
        self.pid = os.getpid()
        self.end = 0
        self.held = 0

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


class NoRoom(Exception):  # noqa: N818 - it says what happened, as the client's own errors do
    """There is no room for a batch: why, and what to do about it."""


class Room:
    """The bytes that may be kept, by one outbox or several: in memory first, then in a temporary file.

    Raises:
        TypeError: `keep_bytes` is no integer.
        ValueError: It is below 0.
    """

    def __init__(self, keep_bytes: int = KEEP_BYTES) -> None:
        try:
            self._limit = operator.index(keep_bytes)
        except TypeError:
            raise TypeError(f"keep_bytes is a number of bytes, such as 1 << 30, not {keep_bytes!r}") from None
        if self._limit < 0:
            raise ValueError(f"keep_bytes must be 0 or more, and is {keep_bytes}")
        self._in_memory = 0
        self._file: _File | None = None

    @classmethod
    def if_kept(cls, on_error: str, keep_bytes: int) -> "Room | None":
        """Return a room if batches are kept.

        Raises:
            TypeError: As for a room.
            ValueError: Likewise, or `on_error` is neither "raise" nor "warn".
        """
        if on_error not in ("raise", "warn"):
            raise ValueError(f"on_error must be 'raise' or 'warn', and is {on_error!r}")
        room = cls(keep_bytes)
        return room if on_error == "warn" else None

    def __getstate__(self) -> int:
        return self._limit

    def __setstate__(self, limit: int) -> None:
        self.__init__(limit)  # type: ignore[misc] # a copy is empty: who keeps something puts it in

    def put(self, data: bytes) -> bytes | tuple[_File, int]:
        """Return where data is now.

        Raises:
            NoRoom: It is nowhere.
        """
        if self._file is not None and self._file.pid != os.getpid():
            self._file = None  # the parent's, since a fork
        in_file = 0 if self._file is None else self._file.end
        if self._in_memory + in_file + len(data) > self._limit:
            raise NoRoom("there is no room for it: give keep_bytes more")
        if self._in_memory + len(data) <= _IN_MEMORY:
            return self.hold(data)
        try:
            self._file = self._file or _File()
            return self._file, self._file.append(data)
        except OSError as error:  # the disk is full, say
            raise NoRoom(
                f"it cannot be written to a temporary file ({error}): free the disk, or name another folder "
                "by TMPDIR"
            ) from error

    def hold(self, data: bytes) -> bytes:
        """Hold data in memory, whatever the bounds."""
        self._in_memory += len(data)
        return data

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
            try:
                place = self._room.put(data)
            except NoRoom:
                place = self._room.hold(data)  # a copy loses nothing
            self._kept.append(Kept(rows, tag, len(data), place))

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
            result = self._ask(call, Urgency.ROUTINE)
        except LossdError as error:
            if error.code not in NOT_AGAIN:
                raise
            self._lose(str(error))
            return None
        if result is None and keeps:
            self._put(call.rows, tag, pickle.dumps(call, protocol=5))
        return result

    def send(
        self, add: Callable[[Kept, LossResult | None], None], urgency: Urgency = Urgency.ROUTINE
    ) -> LossdError | None:
        """Send what is kept, as far as the server answers.

        Args:
            add: Takes each call, which is no longer kept afterwards, and its answer; None if it is refused.
            urgency: Whether the server is asked again if it was away a moment ago.

        Returns:
            The first refusal.
        """
        refused: LossdError | None = None
        for kept in tuple(self._kept):
            result: LossResult | None
            try:
                result = self._ask(kept.call(), urgency)
            except LossdError as error:
                if is_foreign(error):  # it is not the batch that is at fault
                    return refused or error
                if error.code in NOT_AGAIN:
                    self._lose(str(error))
                    self._remove(kept)
                    continue
                error.add_note("It is of a batch that was kept while the server was away, and is left out.")
                refused, result = refused or error, None
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

    def _ask(self, call: CheckedCall, urgency: Urgency) -> LossResult | None:
        """Ask the server; return None if it is away, or was a moment ago."""
        outage, began = outage_of(self._client), time.monotonic()
        client = outage.probe(self._client, urgency)
        if client is None:
            return None
        try:
            result = client._score_plan(client._plan(call))
        except LossdError as error:
            if not outage.explains(error):
                raise
            outage.failed(error, time.monotonic() - began)
            return None
        outage.succeeded()
        return result

    def _put(self, rows: int, tag: object, data: bytes) -> None:
        try:
            self._kept.append(Kept(rows, tag, len(data), self._room.put(data)))
        except NoRoom as error:
            self._lose(str(error))

    def _lose(self, reason: str) -> None:
        self.lost += 1
        warn(f"a batch is lost, {self.lost} by now: {reason}")

    def _remove(self, kept: Kept) -> None:
        self._kept.remove(kept)
        self._room.free(kept)


def given_or_own(client: LossClient | None, base_url: str | None, api_key: str | None) -> LossClient:
    """Return the client that was given, or a new one.

    Raises:
        TypeError: There are both a client and a base_url or an api_key.
    """
    if client is None:
        return LossClient(base_url, api_key=api_key)
    if base_url is not None or api_key is not None:
        raise TypeError("give a client, or base_url and api_key for a new one, not both")
    return client


class Deferring:
    """What a metric and an epoch's report have in common: batches whose answers may come late.

    Args:
        client: What scores them.
        room: Where they are kept while the server is away; None raises the error instead.
    """

    def __init__(self, client: LossClient, room: Room | None) -> None:
        self._client = client
        self._outbox = None if room is None else Outbox(client, room)
        self._refused: LossdError | None = None  # of a kept batch, and not raised yet
        self._is_alone = False  # whether the batch to be scored was added before, and kept if need be

    @property
    def client(self) -> LossClient:
        """Its client; a copy has its own."""
        return self._client

    def _add_late(self, kept: Kept, result: LossResult | None) -> None:
        """Add the answer to a batch that was kept; None if the server refused it."""
        raise NotImplementedError

    def _count_missing(self, number: int) -> None:
        """Count batches that are missing, or fewer if the number is negative."""
        raise NotImplementedError

    def _scored(self, call: CheckedCall, tag: object = None, *, keeps: bool = True) -> LossResult | None:
        """Score a batch; return None if the server is away, and then it is counted as missing and kept."""
        if self._outbox is None:
            return self._client._score_plan(self._client._plan(call))
        result = self._outbox.score(call, tag, keeps=keeps and not self._is_alone)
        if result is None and keeps:
            self._count_missing(1)
        return result

    def _send_kept(self, urgency: Urgency = Urgency.ROUTINE) -> None:
        """Send the batches that were kept, as far as the server answers."""

        def add(kept: Kept, result: LossResult | None) -> None:
            self._add_late(kept, result)
            self._count_missing(-1)

        if self._outbox:
            self._refused = self._outbox.send(add, urgency) or self._refused

    def _raise_refused(self) -> None:
        """Raise what the server said of a batch that was kept, now that all others are added."""
        if self._refused is not None:
            refused, self._refused = self._refused, None
            raise refused

"""Timeouts of requests."""

import math
from dataclasses import dataclass, fields
from typing import Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeout:
    """Limits on the steps of a request, in seconds; None waits for ever.

    The first four limit single steps: a large upload may take any time as long as it moves. The last limits
    the call.

    Attributes:
        connect: For a connection to be made.
        read: For the next bytes of the answer. Longer than the 60 s after which a server by default gives a
            request up, so that its account of that arrives.
        write: For the next bytes of the request to be taken.
        pool: For one of the client's connections to be free.
        deadline: For the whole call: all attempts, the waits between them, and all the requests that a large
            input is split into. In `score_batches` and `iter_batches`, for each batch. Sent along as
            X-Timeout-Ms, so that the server drops expired work.

    Raises:
        ValueError: One is not a positive number.
    """

    connect: float | None = 10.0
    read: float | None = 90.0
    write: float | None = 60.0
    pool: float | None = None
    deadline: float | None = None

    def __post_init__(self) -> None:
        for each in fields(self):
            seconds = getattr(self, each.name)
            if seconds is not None and not (math.isfinite(seconds) and seconds > 0):
                raise ValueError(
                    f"timeout must be a positive number of seconds, or None, and {each.name} is {seconds}"
                )

    @classmethod
    def of(cls, value: "float | Timeout | None") -> Self:
        """Return `value` itself, or with a number every step but the deadline that long."""
        if isinstance(value, cls):
            return value
        seconds = None if value is None else float(value)  # type: ignore[arg-type] # a Timeout is a cls
        return cls(connect=seconds, read=seconds, write=seconds, pool=seconds)

"""When a failed request is sent again."""

import math
import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """When a request is sent again, and how soon.

    Transient failures are retried: the connection failed, a proxy answered 502, or the server's answer says
    `retryable` (overloaded, shutting down, rate limited). Losses are pure functions of the request: sending
    it twice does no harm. Nothing else is retried, nor is an answer that does not come in time.

    The n-th wait is a random time between half of and the whole `first_wait` * 2**(n - 1), at most
    `longest_wait`, or what the server's Retry-After says if that is longer: seconds, or a date. A wait that
    would pass the call's deadline is not begun, nor one for a Retry-After beyond `longest_retry_after`: the
    answer is raised then.

    All requests of a client, and of those made from it by `with_options`, draw on one budget: `burst` retries
    at once and `per_second` more each second, so that a thousand callers do not overload a server that has
    just come back. A retry waits for its turn, and is not made if that wait exceeds `longest_wait`.

    Attributes:
        attempts: The most times that a request is sent. The defaults outlast a server that is away for half a
            minute, and give up after 28 to 56 seconds.
        first_contact: The same while no server has answered this client, so that an unknown name, or another
            program's port, shows before half a minute.
        first_refusal: The same where the connection is refused: the machine is there, and the server may be
            starting. The same where there is no such Unix socket. That is logged once as a warning, by the
            logger `lossd_client`, which has a line for each further retry at the level of info.
        first_wait: Seconds before the second attempt.
        longest_wait: Seconds between attempts at most, Retry-After aside.
        longest_retry_after: Seconds that a Retry-After may ask for.
        burst: The retries in a full budget.
        per_second: The retries added each second.

    Raises:
        ValueError: A number is out of range.
    """

    attempts: int = 12
    first_contact: int = 3
    first_refusal: int = 12
    first_wait: float = 0.25
    longest_wait: float = 8.0
    longest_retry_after: float = 300.0
    burst: int = 20
    per_second: float = 4.0

    def __post_init__(self) -> None:
        if min(self.attempts, self.first_contact, self.first_refusal) < 1:
            raise ValueError(
                "Retry: attempts, first_contact and first_refusal count the first one too: at least 1"
            )
        seconds = (self.first_wait, self.longest_wait, self.longest_retry_after, self.per_second)
        if not all(0 < each < math.inf for each in seconds):
            raise ValueError(
                "Retry: first_wait, longest_wait, longest_retry_after and per_second must be positive numbers"
            )
        if self.burst < 1:
            raise ValueError("Retry: burst must be at least 1; retry=None turns retries off")

    def wait(self, failures: int) -> float:
        """Return the seconds to wait after a number of failures, with jitter."""
        longest = min(self.longest_wait, self.first_wait * 2.0 ** min(failures - 1, 60))
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads callers, keeps no secret

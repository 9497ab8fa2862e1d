"""The log of requests: a line for each of those that are to have one."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import Any, Final, Literal, NamedTuple

from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from lossd.types import Timings

Which = Literal["none", "failed", "all"]

logger = logging.getLogger(__name__)

ORDINARY: Final = frozenset(
    {"ok", "overloaded", "draining", "rate_limited", "too_many_in_flight", "disconnected"}
)
"""The outcomes that may be had by thousands, and say nothing of the request."""
RATE: Final = 10.0
"""Lines a second of requests that failed, at most."""
BURST: Final = 20.0
"""So many may come at once."""
_SUMMARY_SECONDS: Final = 1.0


class RequestLine(NamedTuple):
    """What is said of a request, none of which are the caller's own words.

    Attributes:
        request_id: Its id.
        team: Whose it is; empty if that is not known.
        client: The address that it came from.
        outcome: ``ok``, ``disconnected``, or a fault's code.
        status: The answer's; None if there was none.
        loss: The loss; empty if it is for none, or that is not known.
        format: The body's.
        elements: Elements of its inputs, as far as they have been announced.
        nbytes: Bytes of the body that were received.
        seconds: Of reading, waiting and computing; none if it was not answered with a loss.
        total: Seconds from its head to its answer.
    """

    request_id: str
    team: str
    client: str
    outcome: str
    status: int | None
    loss: str = ""
    format: str = ""
    elements: int = 0
    nbytes: int = 0
    seconds: Timings | None = None
    total: float = 0.0


def address_of(text: str) -> str:
    """An address, if it is one: what proxies pass on may be anything."""
    try:
        return str(ip_address(text))
    except ValueError:
        return "unknown"


class RequestLog:
    """Writes the lines; of those of failures so many a second at most, and then how many were left out.

    Args:
        which: The requests that have a line.
        proxies: The addresses that are believed when they say whom they forward a request for.
        clock: What is gone by, in seconds.
    """

    def __init__(
        self, which: Which, proxies: Sequence[str] = (), clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._which = which
        self._proxies = ProxyHeadersMiddleware(_nothing, list(proxies)).trusted_hosts
        self._clock = clock
        self._credit, self._credited = BURST, clock()
        self._left_out = 0

    def client(self, peer: str, forwarded: bytes | None) -> str:
        """Whom a request came from that has not been through uvicorn's own middleware.

        Args:
            peer: Who has connected.
            forwarded: All of the request's X-Forwarded-For.
        """
        if not forwarded or peer not in self._proxies:
            return peer
        return address_of(self._proxies.get_trusted_client_address(forwarded.decode("latin-1"))[0])

    def wants(self, outcome: str) -> bool:
        """Whether requests that end so have lines."""
        return self._which == "all" or (self._which == "failed" and outcome not in ORDINARY)

    def write(self, line: RequestLine) -> None:
        """Write the line of a request that is to have one."""
        if self._which != "all" and not self._spend():
            return
        level = logging.INFO if line.outcome in ORDINARY else logging.WARNING
        logger.log(level, "request", extra={"fields": _fields(line)})

    def close(self) -> None:
        """Say what has not been said yet."""
        if self._left_out:
            fields = {"left_out": self._left_out}
            logger.warning("further requests failed, and have no lines", extra={"fields": fields})
            self._left_out = 0

    def _spend(self) -> bool:
        """Whether there may be a further line; if not, it is counted."""
        now = self._clock()
        self._credit = min(BURST, self._credit + (now - self._credited) * RATE)
        self._credited = now
        if self._credit >= 1.0:
            self._credit -= 1.0
            return True
        if not self._left_out:
            nobodys = contextvars.Context()  # it is not of the request that happens to be the first
            asyncio.get_running_loop().call_later(_SUMMARY_SECONDS, self.close, context=nobodys)
        self._left_out += 1
        return False


async def _nothing(*_: Any) -> None:  # noqa: ANN401
    """What of the middleware is of use here calls no application."""


def _fields(line: RequestLine) -> dict[str, object]:
    fields: dict[str, object] = {
        "outcome": line.outcome,
        "status": line.status,
        "loss": line.loss,
        "format": line.format,
        "elements": line.elements,
        "bytes": line.nbytes,
    }
    if line.seconds is not None:
        names = ("read_seconds", "queue_seconds", "compute_seconds")
        fields |= {name: round(seconds, 6) for name, seconds in zip(names, line.seconds, strict=True)}
    fields |= {"total_seconds": round(line.total, 6), "client": line.client}
    known = {name: value for name, value in fields.items() if value not in (None, "")}
    return {**known, "team": line.team, "request_id": line.request_id}

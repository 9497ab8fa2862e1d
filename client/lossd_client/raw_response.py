"""Answers as they came."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from lossd_client.rate_limit import RateLimit
from lossd_client.transport import Response

_ResultT = TypeVar("_ResultT")


class Headers(Mapping[str, str]):
    """The headers of an answer, by names in any case.

    Args:
        headers: By names in lower case.
    """

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = dict(headers)

    def __getitem__(self, name: str) -> str:
        return self._headers[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._headers)

    def __len__(self) -> int:
        return len(self._headers)

    def __repr__(self) -> str:
        return f"Headers({self._headers})"


@dataclass(frozen=True, slots=True)
class RawResponse(Generic[_ResultT]):
    """A result, and the HTTP answers that it was read from.

    A large input, and batches, take several requests. Then `responses` has the answers in the order of their
    rows, and `status`, `headers` and `body` are those of the last one. All have status 200: another one is
    raised as a `StatusError`, which has its headers.

    Attributes:
        result: What the method returns without `with_raw_response`.
        responses: The answers; those that a retry followed are left out.
    """

    result: _ResultT
    responses: tuple[Response, ...]

    def parse(self) -> _ResultT:
        """Return the result."""
        return self.result

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.responses[-1].status

    @property
    def headers(self) -> Headers:
        """The headers, by names in any case."""
        return Headers(self.responses[-1].headers)

    @property
    def body(self) -> bytes:
        """The bytes of the answer."""
        return self.responses[-1].body

    @property
    def request_id(self) -> str | None:
        """The request id in the server's logs."""
        return self.responses[-1].headers.get("x-request-id")

    @property
    def rate_limit(self) -> RateLimit | None:
        """What is left of the team's rates; None if they are not limited."""
        return RateLimit.of(self.responses[-1].headers)

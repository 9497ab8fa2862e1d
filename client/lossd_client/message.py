"""What the client's parts pass each other: one request, one response, no HTTP library's types."""

from collections.abc import Mapping
from dataclasses import dataclass, field

JSON = "application/json"
NPY = "application/x-npy"
PROBLEM = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request. `body` is sent piece after piece, without being joined first."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    body: tuple[bytes | memoryview, ...] = ()

    @property
    def length(self) -> int:
        """The body's size in bytes."""
        return sum(len(piece) for piece in self.body)


@dataclass(frozen=True, slots=True)
class Response:
    """One HTTP response, read whole. The names in `headers` are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def media_type(self) -> str:
        """The content type without its parameters, in lower case; "" where there is none."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

"""The settings of a client, from which a copy or an unpickled client is made."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from numbers import Integral  # numpy's too
from typing import Any, Final, TypeAlias, TypedDict

from lossd_client._http.default_headers import checked_headers
from lossd_client._requests.encoding import Form
from lossd_client._version import version
from lossd_client.progress import Progress
from lossd_client.retry import Retry
from lossd_client.timeout import Timeout

DEFAULT_TIMEOUT: Final = Timeout()
DEFAULT_RETRY: Final = Retry()
DEFAULT_REQUEST_BYTES: Final = 16 << 20
DEFAULT_CONCURRENCY: Final = 4
DEFAULT_CONNECTIONS: Final = 32

ShowProgress: TypeAlias = Callable[[Progress], None]


class Options(TypedDict, total=False):
    """The options that `with_options` changes; see `LossClient`."""

    api_key: str | None
    timeout: float | Timeout | None
    retry: Retry | None
    request_bytes: int
    concurrency: int
    progress: ShowProgress | None
    shrink_targets: bool
    one_hot_as_ids: bool
    narrow_floats: bool
    default_headers: Mapping[str, str] | None


_KINDS: Final[Mapping[str, Any]] = {
    "api_key": str | None,
    "retry": Retry | None,
    "request_bytes": Integral,
    "concurrency": Integral,
    "max_connections": Integral,
}
_NAMES: Final[Mapping[Any, str]] = {
    str | None: "a str or None",
    Retry | None: "a Retry or None",
    Integral: "an int",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The arguments of the constructor, checked; see `LossClient`.

    Raises:
        TypeError: A value is of another type.
        ValueError: A value is out of range.
    """

    base_url: str
    api_key: str | None = None  # as given; None reads the environment, also where this is unpickled
    timeout: Timeout = DEFAULT_TIMEOUT
    retry: Retry | None = DEFAULT_RETRY
    request_bytes: int = DEFAULT_REQUEST_BYTES
    concurrency: int = DEFAULT_CONCURRENCY
    progress: ShowProgress | None = None
    shrink_targets: bool = True
    one_hot_as_ids: bool = False
    narrow_floats: bool = False
    transport: Callable[[], Any] | None = None
    max_connections: int = DEFAULT_CONNECTIONS
    default_headers: Mapping[str, str] | None = None  # by names in lower case, once checked

    def __post_init__(self) -> None:
        if self.default_headers is not None:
            object.__setattr__(self, "default_headers", checked_headers(self.default_headers))
        for name, kind in _KINDS.items():
            value = getattr(self, name)
            if not isinstance(value, kind) or (isinstance(value, bool) and kind is Integral):
                raise TypeError(f"{name} must be {_NAMES[kind]}, and is {value!r}")
        if min(self.request_bytes, self.concurrency, self.max_connections) < 1:
            raise ValueError("request_bytes, concurrency and max_connections must be at least 1")

    def changed(self, options: Options) -> "Settings":
        """Return settings with some options changed.

        Raises:
            TypeError: There is no such option.
            ValueError: A value is out of range.
        """
        _refuse_unknown(options)
        given: dict[str, Any] = dict(options)
        if "timeout" in given:
            given["timeout"] = Timeout.of(given["timeout"])
        if given.get("default_headers") is not None:
            given["default_headers"] = {
                **(self.default_headers or {}),
                **checked_headers(given["default_headers"]),
            }
        return replace(self, **given)

    @property
    def form(self) -> Form:
        """The form in which tensors are sent."""
        return Form(self.shrink_targets, self.one_hot_as_ids, self.narrow_floats)

    def headers(self) -> Mapping[str, str]:
        """Return the headers of every request.

        Raises:
            ValueError: The key has characters that no header may have.
        """
        own = dict(self.default_headers or {})
        if "user-agent" not in own:
            own["User-Agent"] = f"lossd-client/{version()}"
        # A copied key may have a line end.
        key = (self.api_key or "").strip() or os.environ.get("LOSSD_API_KEY", "").strip()
        if not key:
            return own
        if not (key.isascii() and key.isprintable() and " " not in key):
            raise ValueError(
                "api_key has characters that no key has: blanks or line ends within it, quotes, or letters "
                "beyond ASCII; copy it again"
            )
        return {**own, "Authorization": f"Bearer {key}"}


def _refuse_unknown(options: Options) -> None:
    for name in options:
        if name not in Options.__annotations__:
            raise TypeError(f"there is no option {name!r}; there are {', '.join(Options.__annotations__)}")

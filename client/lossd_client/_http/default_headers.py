"""Headers of the caller's that every request bears."""

import re
from collections.abc import Mapping
from typing import Final

_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_VALUE: Final = re.compile(r"[!-~](?:[ \t!-~]*[!-~])?")
_OWN: Final = {
    "authorization": "give the key as api_key",
    "x-api-key": "give the key as api_key",
    "x-request-id": "the client makes one for each request",
    "x-timeout-ms": "give Timeout(deadline=...)",
} | dict.fromkeys(
    (
        "accept",
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ),
    "the client sets it by what it sends",
)
"""Headers that the client sets itself, and what to do instead."""


def checked_headers(given: object) -> Mapping[str, str]:
    """Return the headers by names in lower case.

    Raises:
        TypeError: They are no mapping of texts.
        ValueError: One is the client's own, or no header can have such a name or value.
    """
    if not isinstance(given, Mapping):
        raise TypeError(f"default_headers must be a mapping of names to values, and is {_kind(given)}")
    found = {}
    for name, value in given.items():
        if not (isinstance(name, str) and isinstance(value, str)):
            raise TypeError(f"default_headers: {name!r} must be a str, and its value too, not {_kind(value)}")
        if not _NAME.fullmatch(name):
            raise ValueError(f"default_headers: {name!r} is no name of a header")
        lower = name.lower()
        if lower in _OWN:
            raise ValueError(f"default_headers may not have {name}: {_OWN[lower]}")
        if lower in found:
            raise ValueError(f"default_headers has {name} twice, in other letters")
        if not _VALUE.fullmatch(value):  # it may be a secret, and is not repeated
            raise ValueError(
                f"default_headers: the value of {name} is empty, or has characters beyond ASCII, line ends, "
                "or blanks around it"
            )
        found[lower] = value
    return found


def _kind(value: object) -> str:
    return type(value).__name__

"""Parts of error details: JSON pointers, quoted text, suggestions for unknown names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

from lossd.types import TENSOR_DTYPES, ErrorCode, RequestError

SHOWN: Final = 80
"""Most characters of a caller's text that a detail repeats."""


def pointer(*steps: str | int) -> str:
    """Return the JSON pointer (RFC 6901) to a place, such as ``/targets/17/3``."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in steps)


def shown(text: str | bytes) -> str:
    """Return a caller's text for a detail: quoted, escaped, of bounded length."""
    begin = text[:SHOWN]
    quoted = ascii(begin if isinstance(begin, str) else begin.decode("latin-1"))
    return quoted + ("..." if len(text) > SHOWN else "")


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean NAME?" for the nearest known name; empty if none is near."""
    near = difflib.get_close_matches(name[:SHOWN], list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def unknown_tensor(name: str, remedy: str = "") -> RequestError:
    """Return the error of a tensor that no loss takes.

    Args:
        name: The name, as the caller wrote it.
        remedy: A further remedy, as the end of the sentence.
    """
    hint = suggestion(name, TENSOR_DTYPES)
    detail = f"there is no tensor {shown(name)}{hint or ';'} there are {', '.join(TENSOR_DTYPES)}{remedy}"
    return RequestError(ErrorCode.UNKNOWN_TENSOR, detail, [(pointer(name[:SHOWN]), f"unknown tensor{hint}")])

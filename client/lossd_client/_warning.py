"""Warnings that name the user's line."""

import sys
import warnings
from typing import Final

_BETWEEN: Final = frozenset(
    {"contextlib", "keras", "lightning", "lossd_client", "pytorch_lightning", "torch", "torchmetrics"}
)


def warn(text: str) -> None:
    """Warn of something at the innermost line that is neither of this package nor of one that calls it.

    `warnings.warn(skip_file_prefixes=...)` does the same from Python 3.12 on.
    """
    frame = sys._getframe(1)
    while _package(frame.f_globals) in _BETWEEN and frame.f_back is not None:
        frame = frame.f_back
    warnings.warn_explicit(
        text,
        UserWarning,
        frame.f_code.co_filename,
        frame.f_lineno,
        frame.f_globals.get("__name__"),
        frame.f_globals.setdefault("__warningregistry__", {}),
    )


def _package(names: dict[str, object]) -> str:
    return str(names.get("__name__")).partition(".")[0]

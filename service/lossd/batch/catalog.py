"""The losses that this process knows: the built-in ones, and those that an operator adds."""

from __future__ import annotations

from threading import Lock
from typing import Final

from lossd.batch.sums import settings
from lossd.core.catalog import LOSSES, Loss, register
from lossd.error_text import suggestion
from lossd.types import ErrorCode, RequestError

_registering: Final = Lock()
_registered: Final[set[str]] = set()


def loss_of(name: str, entries: tuple[str, ...] = ()) -> Loss:
    """Return a loss.

    Args:
        name: Its name.
        entries: Where further losses are, ``module:name`` each, beside those in ``LOSSD_LOSSES``.

    Raises:
        RequestError: There is none of this name.
        ValueError: There is no loss where an entry says.
    """
    with _registering:
        if name not in LOSSES:
            for entry in (*settings().losses, *entries):
                if entry not in _registered:
                    register(entry)
                    _registered.add(entry)
    if name not in LOSSES:
        known = ", ".join(LOSSES)
        detail = f"there is no loss {name!r}; there are {known}{suggestion(name, list(LOSSES))}"
        raise RequestError(ErrorCode.NOT_FOUND, detail)
    return LOSSES[name]

"""Says which extras of the package are missing where an import fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def needs(what: str, extras: str) -> Iterator[None]:
    """Say what to install, if an import fails meanwhile.

    Args:
        what: What needs the import.
        extras: The extras that have it, separated by commas.

    Raises:
        ModuleNotFoundError: A module is missing; the message names the extras.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("lossd", "lossd_client"):
            raise
        msg = f"{what} needs {error.name}: pip install 'lossd[{extras}]'"
        raise ModuleNotFoundError(msg, name=error.name) from None

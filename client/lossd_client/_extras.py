"""What to install where the import of an optional package fails."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def needs(what: str, extra: str) -> Iterator[None]:
    """Name the extra to install, if an import fails meanwhile.

    Args:
        what: What needs the import.
        extra: The extra that has it.

    Raises:
        ModuleNotFoundError: A package is missing; the message names the extra.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{what} needs {error.name}: pip install 'lossd[{extra}]'", name=error.name
        ) from error

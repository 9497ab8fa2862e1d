"""The error of files that cannot be used."""

from typing import Final

FILL: Final = (
    "fill them with the right values, or, where they are targets that nobody has set, "
    "leave what has none out of the loss by --drop-unlabelled"
)
"""The remedy for values that are not there; the two choices are different losses."""
LEAVE_OUT: Final = "fill them with the right values, or leave their rows out of the file"
"""The remedy where the loss cannot drop them."""


class BadFile(Exception):  # noqa: N818 - as the client's errors: the name says what happened
    """A file cannot be opened, or does not hold what was asked for. The message has a remedy."""

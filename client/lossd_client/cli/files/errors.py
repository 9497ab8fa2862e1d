"""The error of files that cannot be used."""

from typing import Final

FILL: Final = (
    "fill them with the right values, or, where they are targets that nobody has set, "
    "leave what has none out of the loss by --drop-unlabelled"
)
"""The remedy for values that are not there; the two choices are different losses."""


class BadFile(Exception):  # noqa: N818 - as the client's errors: the name says what happened
    """A file cannot be opened, or does not hold what was asked for. The message has a remedy."""

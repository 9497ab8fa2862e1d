"""What is wrong with a file."""


class BadFile(Exception):  # noqa: N818 - as the client's errors: the name says what happened
    """A file cannot be opened, or holds other than what was asked for. The message says what to do."""

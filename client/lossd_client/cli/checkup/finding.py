"""What a check found."""

from dataclasses import dataclass
from enum import StrEnum

from lossd_client.cli.exits import Exit


class State(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found.

    Attributes:
        name: What was looked at.
        detail: How it is.
        state: How bad that is.
        remedy: What to do about it.
        code: What the command's exit code is if this is the first that failed.
    """

    name: str
    detail: str
    state: State = State.OK
    remedy: str | None = None
    code: Exit = Exit.OK


def ok(name: str, detail: str) -> Finding:
    """Makes the finding that all is well."""
    return Finding(name, detail)


def warning(name: str, detail: str, remedy: str) -> Finding:
    """Makes the finding that something may get in the way."""
    return Finding(name, detail, State.WARNING, remedy)


def failed(name: str, detail: str, remedy: str, code: Exit) -> Finding:
    """Makes the finding that this does not work."""
    return Finding(name, detail, State.FAILED, remedy, code)

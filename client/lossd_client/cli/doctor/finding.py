"""Findings of checks."""

from dataclasses import dataclass
from enum import StrEnum

from lossd_client.cli.exits import Exit


class State(StrEnum):
    """The severity of a finding."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """The finding of a check.

    Attributes:
        name: The check.
        detail: What it found.
        state: The severity.
        remedy: The remedy, if there is a fault.
        code: The command's exit code if this is the first failure.
    """

    name: str
    detail: str
    state: State = State.OK
    remedy: str | None = None
    code: Exit = Exit.OK


def ok(name: str, detail: str) -> Finding:
    """Return a passed check."""
    return Finding(name, detail)


def warning(name: str, detail: str, remedy: str) -> Finding:
    """Return a warning."""
    return Finding(name, detail, State.WARNING, remedy)


def failed(name: str, detail: str, remedy: str, code: Exit) -> Finding:
    """Return a failed check."""
    return Finding(name, detail, State.FAILED, remedy, code)

"""The lines of the log: what stands on them, and how they are written."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import Any, Final, Literal

import structlog
from structlog.typing import EventDict, Processor

from lossd.teams import conceal_keys

_FIRST: Final = ("timestamp", "level", "logger", "event", "process", "number")
_TRACES: Final = frozenset({"exception", "stack"})
_CONTROLS: Final = {code: f"\\x{code:02x}" for code in (*range(32), 127)}
"""What would let one line look like several, or like others, on a terminal."""


class Renderer(structlog.stdlib.ProcessorFormatter):
    """Renders records, and conceals keys in what has come of them.

    Args:
        process: What kind of process this is.
        number: Which of its kind, if there are several.
        form: How.
    """

    def __init__(self, process: str, number: int | None, form: Literal["console", "json"]) -> None:
        itself = {"process": process} if number is None else {"process": process, "number": number}

        def add_process(_logger: Any, _method: str, event: EventDict) -> EventDict:  # noqa: ANN401
            return {**event, **itself}

        before: list[Processor] = [
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            add_process,
            _add_fields,
        ]
        super().__init__(
            foreign_pre_chain=before,
            processors=[self.remove_processors_meta, _put_in_order, *_rendering(form)],
        )

    def format(self, record: logging.LogRecord) -> str:
        """A record as it is written."""
        return conceal_keys(super().format(record))


def _rendering(form: Literal["console", "json"]) -> list[Processor]:
    if form == "json":
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    return [
        _escape_controls,
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            pad_event_to=0,
            pad_level=False,
            sort_keys=False,
            exception_formatter=structlog.dev.plain_traceback,  # others show variables, which may be secrets
        ),
    ]


def _add_fields(_logger: Any, _method: str, event: EventDict) -> EventDict:  # noqa: ANN401
    """Add what was given as ``extra={"fields": …}``."""
    fields: Mapping[str, object] = getattr(event["_record"], "fields", {})
    event.update(fields)
    return event


def _put_in_order(_logger: Any, _method: str, event: EventDict) -> EventDict:  # noqa: ANN401
    """Put what every line has first, and leave out a team that is none."""
    if not event.get("team", True):
        del event["team"]
    first = {name: event.pop(name) for name in _FIRST if name in event}
    return {**first, **event}


def _escape_controls(_logger: Any, _method: str, event: EventDict) -> EventDict:  # noqa: ANN401
    return {
        name: value.translate(_CONTROLS) if isinstance(value, str) and name not in _TRACES else value
        for name, value in event.items()
    }

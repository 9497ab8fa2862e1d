"""The log of every process: lines to read or JSON, without any key's secret.

Everything is written with the standard library's logging, by this package and by others; structlog renders
it. What is bound to the context (`structlog.contextvars`), such as a request's id and its team, is on each
line written in that context.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal

from lossd.teams import conceal_keys

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor

Format = Literal["console", "json"]

logger = logging.getLogger(__name__)

_FIRST: Final = ("timestamp", "level", "logger", "event", "process", "number")
_TRACES: Final = frozenset({"exception", "stack"})
_CONTROLS: Final = {code: f"\\x{code:02x}" for code in (*range(32), 127)}
"""Characters that could make one line look like several, or like another, on a terminal."""


def configure(process: str, number: int | None, level: str, form: Format) -> None:
    """Log to standard error from now on.

    Args:
        process: The kind of process.
        number: Its number, if there are several of its kind.
        level: The least level that is logged.
        form: The form of the lines.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(process, number, form))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread


class _Formatter(logging.Formatter):
    """Renders records. The renderer is made for the first one: most workers log nothing, and start faster."""

    def __init__(self, process: str, number: int | None, form: Format) -> None:
        super().__init__()
        self._itself = {"process": process} if number is None else {"process": process, "number": number}
        self._form: Format = form
        self._renderer: logging.Formatter | None = None

    def format(self, record: logging.LogRecord) -> str:
        """Return a record's line."""
        if self._renderer is None:
            self._renderer = _make_renderer(self._itself, self._form)
        return conceal_keys(self._renderer.format(record))


def _make_renderer(itself: Mapping[str, object], form: Format) -> logging.Formatter:
    import structlog

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
    rendering: list[Processor] = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    if form == "console":
        console = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            pad_event_to=0,
            pad_level=False,
            sort_keys=False,
            exception_formatter=structlog.dev.plain_traceback,  # others show variables, which may be secrets
        )
        rendering = [_escape_controls, console]
    formatter = structlog.stdlib.ProcessorFormatter
    return formatter(
        foreign_pre_chain=before, processors=[formatter.remove_processors_meta, _put_in_order, *rendering]
    )


def _add_fields(_logger: Any, _method: str, event: EventDict) -> EventDict:  # noqa: ANN401
    """Add the fields of ``extra={"fields": …}``."""
    fields: Mapping[str, object] = getattr(event["_record"], "fields", {})
    event.update(fields)
    return event


def _put_in_order(_logger: Any, _method: str, event: EventDict) -> EventDict:  # noqa: ANN401
    """Put the fields of every line first, and leave out an empty team."""
    if not event.get("team", True):
        del event["team"]
    first = {name: event.pop(name) for name in _FIRST if name in event}
    return {**first, **event}


def _escape_controls(_logger: Any, _method: str, event: EventDict) -> EventDict:  # noqa: ANN401
    return {
        name: value.translate(_CONTROLS) if isinstance(value, str) and name not in _TRACES else value
        for name, value in event.items()
    }


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Log an exception that ends the process."""
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    else:
        logger.critical("uncaught exception; exiting", exc_info=(kind, error, trace))


def _log_uncaught_in_thread(thrown: threading.ExceptHookArgs) -> None:
    """Log an exception that ends a thread."""
    if thrown.exc_value is not None and not isinstance(thrown.exc_value, SystemExit):
        logger.error(
            "uncaught exception in a thread",
            exc_info=(thrown.exc_type, thrown.exc_value, thrown.exc_traceback),
        )

"""The log of every process: lines to read or JSON, without any key's secret.

Everything is written with the standard library's logging, by this package and by others; structlog renders
it. What is bound to the context (`structlog.contextvars`), such as a request's id and its team, is on each
line written in that context. `lossd.log_limits` limits the number of lines, the length of each is limited
here.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
import threading
from collections.abc import Mapping
from contextlib import nullcontext
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, TextIO

from lossd.log_limits import RATE, LineLimits
from lossd.teams import conceal_keys

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor

Format = Literal["console", "json"]

logger = logging.getLogger(__name__)

_FIRST: Final = ("timestamp", "level", "logger", "event", "process", "number")
_TRACES: Final = frozenset({"exception", "stack"})
_LONGEST: Final = 1 << 14
"""Characters of a field, and of a line for people."""
_SUMMARY_SECONDS: Final = 1.0
_CONTROLS: Final = {code: f"\\x{code:02x}" for code in (*range(32), 127)}
"""Characters that could make one line look like several, or like another, on a terminal."""


def configure(process: str, number: int | None, level: str, form: Format, rate: float = RATE) -> None:
    """Log to standard error from now on.

    Args:
        process: The kind of process.
        number: Its number, if there are several of its kind.
        level: The least level that is logged.
        form: The form of the lines.
        rate: The most lines a second.
    """
    handler = make_handler(process, number, form, rate)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_uncaught
    sys.unraisablehook = _log_unraisable
    threading.excepthook = _log_uncaught_in_thread


def make_handler(process: str, number: int | None, form: Format, rate: float = RATE) -> logging.Handler:
    """Return what writes lines to standard error, as `configure` has it."""
    handler = _LimitedHandler(LineLimits(rate))
    handler.setFormatter(_Formatter(process, number, form))
    return handler


class _LimitedHandler(logging.StreamHandler[TextIO]):
    """Writes to standard error. A second after it has left out lines it says how many."""

    def __init__(self, limits: LineLimits) -> None:
        super().__init__(sys.stderr)
        self._limits = limits
        self._summary: threading.Timer | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, if the limits allow it."""
        if self._limits.allow(record):
            super().emit(record)
        elif self._summary is None:
            self._summary = threading.Timer(_SUMMARY_SECONDS, self._summarize)
            self._summary.daemon = True
            self._summary.start()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Lose what is logged from now on, if the terminal or the pipe is closed.

        Else Python would try again at the end, and end with another exit status.
        """
        error = sys.exception()
        if not (isinstance(error, OSError) and error.errno in (errno.EIO, errno.EPIPE)):
            super().handleError(record)
            return
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.stream.fileno())
        os.close(nowhere)

    def close(self) -> None:
        """Say what was left out, at the end of the process."""
        if self._summary is not None:
            self._summary.cancel()
        self._summarize()
        super().close()

    def _summarize(self) -> None:
        with self.lock or nullcontext():
            left_out = self._limits.take_left_out()
            self._summary = None
            if left_out is None:
                return
            fields = {"left_out": left_out.lines, "most_of": left_out.owner}
            text = "lines not logged: over the rate limit"
            record = logger.makeRecord(
                logger.name, logging.WARNING, __file__, 0, text, (), None, extra={"fields": fields}
            )
            super().emit(record)


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
        text = conceal_keys(self._renderer.format(record))
        return text if self._form == "json" else text[:_LONGEST]  # half a JSON object could not be read


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
    rendering: list[Processor] = [
        structlog.processors.format_exc_info,
        _shorten,
        structlog.processors.JSONRenderer(),
    ]
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


def _shorten(_logger: Any, _method: str, event: EventDict) -> EventDict:  # noqa: ANN401
    """Cut long texts in the middle: a traceback begins with where it was, and ends with what."""
    half = _LONGEST // 2
    return {
        name: f"{value[:half]} ... {value[-half:]}"
        if isinstance(value, str) and len(value) > _LONGEST
        else value
        for name, value in event.items()
    }


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


def _log_unraisable(thrown: sys.UnraisableHookArgs) -> None:
    """Log an exception that nobody can catch, such as one of a finalizer."""
    if thrown.exc_value is not None:
        trace = (thrown.exc_type, thrown.exc_value, thrown.exc_traceback)
        logger.error("%s", thrown.err_msg or "exception ignored", exc_info=trace)


def _log_uncaught_in_thread(thrown: threading.ExceptHookArgs) -> None:
    """Log an exception that ends a thread."""
    if thrown.exc_value is not None and not isinstance(thrown.exc_value, SystemExit):
        logger.error(
            "uncaught exception in a thread",
            exc_info=(thrown.exc_type, thrown.exc_value, thrown.exc_traceback),
        )

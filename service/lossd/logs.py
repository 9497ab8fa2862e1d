"""How every process logs: lines for people or JSON, in which no key ever stands.

Everything is written by the standard library's logging, ours and what others write; structlog renders it.
What is bound to the context (`structlog.contextvars`) stands on each line that is written in it: a request's
id and its team.
"""

from __future__ import annotations

import logging
import sys
import threading
from types import TracebackType
from typing import Literal

Format = Literal["console", "json"]

logger = logging.getLogger(__name__)


def configure(process: str, number: int | None, level: str, form: Format) -> None:
    """Log to standard error from now on.

    Args:
        process: What kind of process this is.
        number: Which of its kind, if there are several.
        level: What is logged, and all above it.
        form: How.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(process, number, form))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_ending
    threading.excepthook = _log_thread


class _Formatter(logging.Formatter):
    """Renders every record. What renders is imported with the first one: most workers never write any."""

    def __init__(self, process: str, number: int | None, form: Format) -> None:
        super().__init__()
        self._process = process
        self._number = number
        self._form: Format = form
        self._renderer: logging.Formatter | None = None

    def format(self, record: logging.LogRecord) -> str:
        """A record as it is written."""
        if self._renderer is None:
            from lossd.log_lines import Renderer

            self._renderer = Renderer(self._process, self._number, self._form)
        return self._renderer.format(record)


def _log_ending(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Log what ends the process."""
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    else:
        logger.critical("ended by an error", exc_info=(kind, error, trace))


def _log_thread(thrown: threading.ExceptHookArgs) -> None:
    """Log what ends a thread."""
    if thrown.exc_value is not None and not isinstance(thrown.exc_value, SystemExit):
        logger.error(
            "a thread was ended by an error",
            exc_info=(thrown.exc_type, thrown.exc_value, thrown.exc_traceback),
        )

"""The logger `lossd_client`, and LOSSD_LOG, which shows what it says."""

import logging
import os
from typing import Final

from lossd_client._http.addresses import without_password
from lossd_client.errors import LossdError, StatusError
from lossd_client.transport import Request, Response

logger = logging.getLogger("lossd_client")

_VARIABLE: Final = "LOSSD_LOG"
_LEVELS: Final = ("debug", "info")


def show_as_asked() -> None:
    """Write the logger's lines to standard error if LOSSD_LOG says "info" or "debug".

    As OPENAI_LOG, ANTHROPIC_LOG and STRIPE_LOG do. A program that sets up its own logging needs no variable.
    """
    level = os.environ.get(_VARIABLE, "").strip().lower()
    if not level:
        return
    if level not in _LEVELS:
        logger.warning("%s is neither %s, and shows nothing", _VARIABLE, " nor ".join(_LEVELS))
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s: %(message)s"))
    logger.addHandler(handler)
    handler.addFilter(lambda _: not logging.getLogger().handlers)  # which show these lines too
    logger.setLevel(level.upper())


def log_answer(request: Request, response: Response, seconds: float) -> None:
    """Log an attempt that was answered."""
    if logger.isEnabledFor(logging.DEBUG):
        logger.debug("%s: %d in %.1f ms", _described(request), response.status, 1e3 * seconds)


def log_failure(request: Request, error: LossdError) -> None:
    """Log an attempt that was not answered."""
    if logger.isEnabledFor(logging.DEBUG):
        logger.debug("%s: %s", _described(request), error)


def log_retry(request: Request, error: LossdError, reason: str, seconds: float) -> None:
    """Log that a request will be sent again, and why."""
    if logger.isEnabledFor(logging.INFO):
        why = f"{reason} ({error.status} {error.code})" if isinstance(error, StatusError) else error
        logger.info("%s: %s; trying again in %.3g s", _described(request), why, seconds)


def _described(request: Request) -> str:
    """Return what lines say of a request: nothing of its key, its parameters or its data."""
    request_id = request.headers.get("X-Request-Id", "none")
    return f"{request.method} {without_password(request.base_url)}{request.path}, request id {request_id}"

"""``GET /usage``: the usage of the caller's team, from where the supervisor writes it."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request

from lossd.api.auth import require_team
from lossd.api.routes.openapi import problem_response
from lossd.api.routes.schemas import Usage, UsageDay, UsageTotal
from lossd.engine.usage_store import MOST_DAYS, first_day, read_usage, reason, shown, total_usage
from lossd.error_text import pointer, suggestion
from lossd.error_text import shown as quoted
from lossd.teams import Team
from lossd.types import ErrorCode, RequestError
from lossd.wire import parse_query

logger = logging.getLogger(__name__)

_DAYS: Final = 30
_READ_SECONDS: Final = 5.0
_PARAMETERS: Final = [
    {
        "name": "days",
        "in": "query",
        "required": False,
        "description": "The number of days, up to and including today (in UTC).",
        "schema": {
            "type": "integer",
            "format": "int64",
            "minimum": 1,
            "maximum": MOST_DAYS,
            "default": _DAYS,
        },
    }
]
_PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {
    401: problem_response([ErrorCode.UNAUTHORIZED]),
    403: problem_response([ErrorCode.FORBIDDEN]),
    404: {**problem_response([]), "description": "This server keeps no usage."},
    422: problem_response([ErrorCode.INVALID_PARAMETER]),
    500: {**problem_response([ErrorCode.INTERNAL_ERROR]), "description": "The usage cannot be read."},
}


def usage_routes(place: Path | str | None) -> APIRouter:
    """Return the route; ``place`` is the usage file or the database's URL, if there is one."""
    router = APIRouter(tags=["status"])
    reader = ThreadPoolExecutor(1)  # a disk that hangs holds up only this route

    @router.get(
        "/usage",
        summary="Usage of the caller's team",
        openapi_extra={"parameters": _PARAMETERS},
        responses=_PROBLEMS,
    )
    async def usage(request: Request, team: Annotated[Team, Depends(require_team)]) -> Usage:
        since = first_day(_days(request.scope["query_string"]))
        if place is None:
            detail = "this server keeps no usage (LOSSD_USAGE_FILE is empty); ask who runs it"
            raise RequestError(ErrorCode.NOT_FOUND, detail)
        try:
            async with asyncio.timeout(_READ_SECONDS):
                loop = asyncio.get_running_loop()
                used = await loop.run_in_executor(reader, read_usage, place, since, team.name)
        except FileNotFoundError:
            used = []  # not made yet; /readyz says so if it cannot be made
        except (OSError, sqlite3.Error, TimeoutError) as error:
            logger.error("usage cannot be read from %s: %s", shown(place), error)
            why = "it takes too long" if isinstance(error, TimeoutError) else reason(error)
            raise RequestError(
                ErrorCode.INTERNAL_ERROR, f"usage cannot be read: {why}; it is kept, try again later"
            ) from None
        days = [UsageDay.model_validate({"day": one.day, **total_usage([one])}) for one in used]
        total = UsageTotal.model_validate(total_usage(used))
        return Usage(team=team.name, since=since, days=days, total=total)

    return router


def _days(query_string: bytes) -> int:
    """Return the number of days in a query.

    Raises:
        RequestError: ``invalid_parameter``.
    """
    given = parse_query(query_string)
    days = given.pop("days", _DAYS)
    for name in given:
        hint = suggestion(name, ["days"])
        detail = f"/usage has no parameter {quoted(name)}{hint or '; it has days'}"
        raise RequestError(ErrorCode.INVALID_PARAMETER, detail, [(pointer(name), f"unknown parameter{hint}")])
    if type(days) is not int or not 1 <= days <= MOST_DAYS:
        detail = f"days is {quoted(str(days))}; send a whole number from 1 to {MOST_DAYS}"
        raise RequestError(ErrorCode.INVALID_PARAMETER, detail, [("/days", f"not from 1 to {MOST_DAYS}")])
    return days

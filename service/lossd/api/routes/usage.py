"""``GET /usage``: what the caller's team has used, and its limits; ``GET /overview``: the same of all teams.

Usage is read from where the supervisor writes it. What is in flight or waits is counted by all front ends of
this server together.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from lossd.api.auth import check_operator, require_team
from lossd.api.metrics import PARTS, WAITING
from lossd.api.routes.openapi import problem_response
from lossd.api.routes.schemas import Overview, Usage
from lossd.api.routes.status import describe_workers
from lossd.api.services import Service
from lossd.engine.admission.quotas import Quotas
from lossd.engine.usage_store import MOST_DAYS, Used, first_day, read_usage, reason, shown, total_usage
from lossd.error_text import pointer, suggestion
from lossd.error_text import shown as quoted
from lossd.teams import Team
from lossd.types import ErrorCode, RequestError
from lossd.wire import parse_query

logger = logging.getLogger(__name__)

_DAYS: Final = 30
_MOST_OVERVIEW_DAYS: Final = 366
_READ_SECONDS: Final = 5.0
_NO_USAGE: Final = "this server keeps no usage (LOSSD_USAGE_FILE is empty)"
_PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {
    401: problem_response([ErrorCode.UNAUTHORIZED]),
    403: problem_response([ErrorCode.FORBIDDEN]),
    422: problem_response([ErrorCode.INVALID_PARAMETER]),
}
_USAGE_PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {
    **_PROBLEMS,
    404: {**problem_response([]), "description": "This server keeps no usage."},
    500: {**problem_response([ErrorCode.INTERNAL_ERROR]), "description": "The usage cannot be read."},
}

_Document = dict[str, Any]


class _Reader:
    """Reads usage, in a thread of its own: a disk that hangs holds up only these routes.

    Args:
        place: The usage file or the database's URL, if there is one.
    """

    def __init__(self, place: Path | str | None) -> None:
        self._place = place
        self._thread = ThreadPoolExecutor(1)

    async def read(self, since: date, team: str | None) -> list[Used]:
        """Return the usage since a day, of one team or of all.

        Raises:
            RequestError: ``not_found``: none is kept; ``internal_error``: it cannot be read.
        """
        place = self._place
        if place is None:
            raise RequestError(ErrorCode.NOT_FOUND, f"{_NO_USAGE}; ask who runs it")
        try:
            async with asyncio.timeout(_READ_SECONDS):
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(self._thread, read_usage, place, since, team)
        except FileNotFoundError:
            return []  # not made yet; /readyz says so if it cannot be made
        except (OSError, sqlite3.Error, TimeoutError) as error:
            logger.error("usage cannot be read from %s: %s", shown(place), error)
            why = "it takes too long" if isinstance(error, TimeoutError) else reason(error)
            raise RequestError(
                ErrorCode.INTERNAL_ERROR, f"usage cannot be read: {why}; it is kept, try again later"
            ) from None

    async def read_if_possible(self, since: date) -> tuple[list[Used] | None, list[str]]:
        """Return the usage of all teams; if there is none to read, None and a note that says why."""
        try:
            return await self.read(since, None), []
        except RequestError as error:
            return None, [_NO_USAGE if error.code == ErrorCode.NOT_FOUND else error.detail]


def usage_routes(service: Service) -> APIRouter:
    """Return the routes of a service."""
    router = APIRouter(tags=["status"])
    reader = _Reader(service.settings.usage_file)

    @router.get(
        "/usage",
        summary="Usage of the caller's team",
        openapi_extra={"parameters": [_days_parameter(MOST_DAYS)]},
        responses=_USAGE_PROBLEMS,
    )
    async def usage(
        request: Request, response: Response, team: Annotated[Team, Depends(require_team)]
    ) -> Usage:
        response.headers["cache-control"] = "no-store"
        since = first_day(_read_days(request.scope, MOST_DAYS))
        used = await reader.read(since, team.name)
        known = _describe_team(team, service.gate.quotas)
        return Usage.model_validate({**known, "since": since, **_describe_usage(used)})

    @router.get(
        "/overview",
        summary="All teams, the workers and the queue, for operators",
        openapi_extra={"parameters": [_days_parameter(_MOST_OVERVIEW_DAYS)]},
        response_model=Overview,
        responses=_PROBLEMS,
    )
    async def overview(request: Request, team: Annotated[Team, Depends(require_team)]) -> Response:
        check_operator(team)
        since = first_day(_read_days(request.scope, _MOST_OVERVIEW_DAYS))
        used, notes = await reader.read_if_possible(since)
        document = {"since": since, "notes": notes, **_describe_server(service, used)}
        # Not by the models, which would take a second for thousands of teams.
        return Response(
            msgspec.json.encode(document),
            media_type="application/json",
            headers={"cache-control": "no-store"},
        )

    return router


def _describe_team(team: Team, quotas: Quotas) -> _Document:
    requests, nbytes = quotas.in_flight(team.name)
    return {
        "team": team.name,
        "operator": team.operator,
        "weight": team.weight,
        "limits": msgspec.structs.asdict(team.limits),
        "in_flight": {"requests": requests, "bytes": nbytes},
    }


def _describe_usage(used: Sequence[Used]) -> _Document:
    return {"days": [{"day": one.day, **total_usage([one])} for one in used], "total": total_usage(used)}


def _describe_server(service: Service, used: Sequence[Used] | None) -> _Document:
    """Return the document of ``/overview``, but for its days.

    Args:
        service: The front end's parts, which see those of the others.
        used: The usage of all teams; None if there is none to read.
    """
    totals = service.metrics.totals()
    by_team = defaultdict(list)
    for one in used or ():
        by_team[one.team].append(one)
    teams = [
        {
            **_describe_team(team, service.gate.quotas),
            "disabled": team.disabled,
            "waiting": _now(totals, *((name, team.name) for name in WAITING)),
            "usage": None if used is None else _describe_usage(by_team[team.name]),
        }
        for team in service.gate.teams.values()
    ]
    memory = [
        {
            "part": part,
            "bytes": int(totals["memory_bytes", part]),
            "reserved": int(totals["memory_reserved_bytes", part]),
        }
        for part in PARTS
    ]
    waiting = [sum(number for key, number in totals.items() if key[0] == name) for name in WAITING]
    return {
        "teams": teams,
        "workers": [worker.model_dump() for worker in describe_workers(service)],
        "queue": {
            "in_flight": {
                "requests": int(totals["requests_in_flight",]),
                "bytes": sum(one["reserved"] for one in memory),
            },
            "waiting": {"requests": int(waiting[0]), "bytes": int(waiting[1])},
        },
        "memory": memory,
    }


def _now(
    totals: Mapping[tuple[str, ...], float], requests: tuple[str, str], nbytes: tuple[str, str]
) -> _Document:
    return {"requests": int(totals.get(requests, 0)), "bytes": int(totals.get(nbytes, 0))}


def _days_parameter(most: int) -> _Document:
    """Return the parameter ``days`` as OpenAPI has it."""
    return {
        "name": "days",
        "in": "query",
        "required": False,
        "description": "The number of days, up to and including today (in UTC).",
        "schema": {"type": "integer", "format": "int64", "minimum": 1, "maximum": most, "default": _DAYS},
    }


def _read_days(scope: Mapping[str, Any], most: int) -> int:
    """Return the number of days in a request's query.

    Raises:
        RequestError: ``invalid_parameter``.
    """
    given = parse_query(scope["query_string"])
    days = given.pop("days", _DAYS)
    for name in given:
        hint = suggestion(name, ["days"])
        detail = f"{scope['path']} has no parameter {quoted(name)}{hint or '; it has days'}"
        raise RequestError(ErrorCode.INVALID_PARAMETER, detail, [(pointer(name), f"unknown parameter{hint}")])
    if type(days) is not int or not 1 <= days <= most:
        detail = f"days is {quoted(str(days))}; send a whole number from 1 to {most}"
        raise RequestError(ErrorCode.INVALID_PARAMETER, detail, [("/days", f"not from 1 to {most}")])
    return days

"""Who asks, for the framework's routes: what they depend on that ask for a key."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Request, Security
from fastapi.security import APIKeyHeader, HTTPBearer
from structlog.contextvars import bind_contextvars

from lossd.api.auth import Gate, check_team
from lossd.teams import Team

# They say in the OpenAPI document how a key is presented; it is the gate that reads it.
_BEARER: Final = HTTPBearer(
    scheme_name="bearer", description="A key of a team, where there are teams.", auto_error=False
)
_HEADER: Final = APIKeyHeader(
    name="X-API-Key", scheme_name="header", description="The same, in a header of its own.", auto_error=False
)
TEAM: Final = "lossd.team"
"""Where a request's scope has its team's name, once that is known."""
SECURITY: Final[list[dict[str, list[str]]]] = [{"bearer": []}, {"header": []}]
"""What the OpenAPI document says of routes that ask for a key."""


async def asking_team(
    request: Request,
    _bearer: Annotated[object, Security(_BEARER)],
    _header: Annotated[object, Security(_HEADER)],
) -> Team:
    """The team that asks.

    Raises:
        RequestError: ``unauthorized``, ``forbidden``.
    """
    gate: Gate = request.app.state.gate
    team = gate.identify(request.scope)
    request.scope[TEAM] = team.name
    bind_contextvars(team=team.name)
    check_team(team)
    return team

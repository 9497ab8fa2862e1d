"""Keys and teams: which team a request is of, and whether that team may use the server."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import Annotated, Final, Protocol

from fastapi import Request, Security
from fastapi.security import APIKeyHeader, HTTPBearer
from starlette.types import Scope
from structlog.contextvars import bind_contextvars

from lossd.engine.admission.quotas import Quotas
from lossd.engine.ipc.messages import TeamsChanged, decode_teams
from lossd.teams import DEFAULT, EVERYONE, Roster, Team, is_key
from lossd.types import ErrorCode, RequestError

_REMEDY: Final = "send one as Authorization: Bearer KEY, or as X-API-Key: KEY"
_LONGEST: Final = 256
CREDENTIALS: Final = frozenset({b"authorization", b"x-api-key"})
"""The headers that carry keys."""
CONNECTION: Final = "lossd.connection"
"""The scope's key of a request's connection, which is told whose it is."""
TEAM: Final = "lossd.team"
"""The scope's key of the team's name, once that is known."""
_METRICS: Final = "/metrics"
"""The path that needs a key, but is answered also if the key's team has used up its connections."""
SECURITY: Final[list[dict[str, list[str]]]] = [{"bearer": []}, {"header": []}]
"""The security requirements, in the OpenAPI document, of routes that need a key."""
# These two only document how to send a key; `Gate` reads it.
_BEARER: Final = HTTPBearer(
    scheme_name="bearer", description="A key of a team, where there are teams.", auto_error=False
)
_HEADER: Final = APIKeyHeader(
    name="X-API-Key", scheme_name="header", description="The same, in a header of its own.", auto_error=False
)


class Connection(Protocol):
    """A connection, whose owner is set here."""

    def claim_or_refuse(self, team: Team) -> None:
        """Count it as a team's from now on.

        Raises:
            RequestError: ``overloaded``: the team may not have one more. The answer is the last one.
        """


class Gate:
    """Finds the team of a request by its key. Without teams, every request is of one team.

    Args:
        quotas: The limits of teams.
        teams: There are teams. Requests wait until they are loaded.

    Attributes:
        quotas: The limits of teams.
        known: Set once the teams are loaded.
    """

    def __init__(self, quotas: Quotas, *, teams: bool) -> None:
        self.quotas: Final = quotas
        self.known: Final = asyncio.Event()
        self._roster: Roster | None = Roster({}) if teams else None
        if not teams:
            quotas.change(self.teams, {DEFAULT: 0})
            self.known.set()

    @property
    def teams(self) -> Mapping[str, Team]:
        """All teams, by name."""
        return {DEFAULT: EVERYONE} if self._roster is None else self._roster.teams

    def change(self, frame: TeamsChanged, fd: int) -> None:
        """Load new teams from the memory behind a descriptor, and close it."""
        try:
            found = decode_teams(os.pread(fd, frame.nbytes, 0))
        finally:
            os.close(fd)
        self._roster = Roster(found.teams)
        self.quotas.change(found.teams, found.rows)
        self.known.set()

    def admit(self, scope: Scope) -> Team:
        """Return the team of a request, if it may use the server.

        Raises:
            RequestError: ``unauthorized``, ``forbidden``, ``overloaded``.
        """
        team = self.identify(scope)
        check_team(team)
        return team

    def identify(self, scope: Scope) -> Team:
        """Return the team of a request, whose connection is that team's from now on.

        Args:
            scope: ASGI's, or the headers alone.

        Raises:
            RequestError: ``unauthorized``; ``overloaded``: the team has used up its connections.
        """
        team = self._find_team(scope)
        if CONNECTION in scope and scope["path"] != _METRICS:
            connection: Connection = scope[CONNECTION]
            connection.claim_or_refuse(team)
        return team

    def _find_team(self, scope: Scope) -> Team:
        if self._roster is None:
            return EVERYONE
        key = _read_key(scope)
        if key is None:
            raise RequestError(ErrorCode.UNAUTHORIZED, f"a key is required; {_REMEDY}")
        team = self._roster.find(key)
        if team is None:
            raise RequestError(ErrorCode.UNAUTHORIZED, _why_invalid(key))
        return team


def check_team(team: Team) -> None:
    """Refuse a disabled team.

    Raises:
        RequestError: ``forbidden``.
    """
    if team.disabled:
        raise RequestError(ErrorCode.FORBIDDEN, f"team {team.name} is disabled; ask who runs this server")


def check_operator(team: Team) -> None:
    """Refuse a team that may not see the others.

    Raises:
        RequestError: ``forbidden``.
    """
    if not team.operator:
        detail = (
            f"team {team.name} is no operator, and may ask for its own usage alone, at /usage; who runs this "
            "server can make it one: operator = true in the teams file"
        )
        raise RequestError(ErrorCode.FORBIDDEN, detail)


async def require_team(
    request: Request,
    _bearer: Annotated[object, Security(_BEARER)],
    _header: Annotated[object, Security(_HEADER)],
) -> Team:
    """Return the team of a request: a dependency of the framework's routes that need a key.

    Raises:
        RequestError: ``unauthorized``, ``forbidden``, ``overloaded``.
    """
    gate: Gate = request.app.state.gate
    team = gate.identify(request.scope)
    request.scope[TEAM] = team.name
    bind_contextvars(team=team.name)
    check_team(team)
    return team


def _read_key(scope: Scope) -> str | None:
    """Return the key in a request's headers, or None.

    Raises:
        RequestError: ``unauthorized``: there are two keys, or the scheme is not known.
    """
    found: str | None = None
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, key = value.strip().partition(b" ")
            if scheme.lower() != b"bearer":
                raise RequestError(
                    ErrorCode.UNAUTHORIZED, f"the Authorization scheme must be Bearer; {_REMEDY}"
                )
        elif name == b"x-api-key":
            key = value
        else:
            continue
        text = key.strip()[:_LONGEST].decode("latin-1")
        if found is not None and found != text:
            raise RequestError(ErrorCode.UNAUTHORIZED, f"the request presents two keys; {_REMEDY}, once")
        found = text
    return found


def _why_invalid(key: str) -> str:
    """Return what to say of a key that is no team's. It repeats only the key's id, which is no secret."""
    if is_key(key):
        return f"the key {key.split('_')[1]} is unknown or revoked; ask the operator for a new one"
    return "this is not a complete key; a key begins with lossd_ and has 53 characters"


def rate_headers(gate: Gate, team: Team) -> list[tuple[bytes, bytes]]:
    """Return the RateLimit headers of a team; none if its rates are not limited."""
    left = gate.quotas.left(team.name)
    if not left:
        return []
    return [
        (b"ratelimit-policy", ", ".join(one.policy for one in left).encode()),
        (b"ratelimit", ", ".join(one.state for one in left).encode()),
    ]

"""Who asks: the key that a request presents, and the team that it is of."""

from __future__ import annotations

import asyncio
import os
from typing import Final

from starlette.types import Scope

from lossd.engine.admission.quotas import Quotas
from lossd.engine.ipc.messages import TeamsChanged, decode_teams
from lossd.teams import EVERYONE, Roster, Team, is_key
from lossd.types import ErrorCode, RequestError

_REMEDY: Final = "send one as Authorization: Bearer KEY, or as X-API-Key: KEY"
_LONGEST: Final = 256
CREDENTIALS: Final = frozenset({b"authorization", b"x-api-key"})
"""The headers that keys are presented in."""


class Gate:
    """Finds the team of a request, by its key; without teams, everyone is of one.

    Args:
        quotas: What teams may use.
        teams: There are teams; nobody gets in before it is known which.
    """

    def __init__(self, quotas: Quotas, *, teams: bool) -> None:
        self.quotas: Final = quotas
        self.known: Final = asyncio.Event()
        """It is known who may come in."""
        self._roster: Roster | None = Roster({}) if teams else None
        if not teams:
            self.known.set()

    @property
    def open(self) -> bool:
        """No key is asked for."""
        return self._roster is None

    def change(self, frame: TeamsChanged, fd: int) -> None:
        """Go on with other teams, which stand in a descriptor's memory."""
        try:
            found = decode_teams(os.pread(fd, frame.nbytes, 0))
        finally:
            os.close(fd)
        self._roster = Roster(found.teams)
        self.quotas.change(found.teams, found.slots)
        self.known.set()

    def admit(self, scope: Scope) -> Team:
        """The team that a request is of, if it may come in.

        Raises:
            RequestError: ``unauthorized``, ``forbidden``.
        """
        team = self.identify(scope)
        check_team(team)
        return team

    def identify(self, scope: Scope) -> Team:
        """The team that a request is of.

        Args:
            scope: ASGI's. Its headers alone matter: a route that asks for a key asks for it here, whatever
                its path looked like.

        Raises:
            RequestError: ``unauthorized``.
        """
        if self._roster is None:
            return EVERYONE
        key = _presented(scope)
        if key is None:
            raise RequestError(ErrorCode.UNAUTHORIZED, f"this server asks for a key; {_REMEDY}")
        team = self._roster.find(key)
        if team is None:
            raise RequestError(ErrorCode.UNAUTHORIZED, _why_not(key))
        return team


def check_team(team: Team) -> None:
    """Refuse a team that may not come in.

    Raises:
        RequestError: ``forbidden``.
    """
    if team.disabled:
        raise RequestError(ErrorCode.FORBIDDEN, f"team {team.name} is disabled; ask who runs this server")


def _presented(scope: Scope) -> str | None:
    """The key that a request presents, or None.

    Raises:
        RequestError: ``unauthorized``: it presents several, or in a way that is not known.
    """
    found: str | None = None
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, key = value.strip().partition(b" ")
            if scheme.lower() != b"bearer":
                raise RequestError(
                    ErrorCode.UNAUTHORIZED, f"the Authorization is of another scheme than Bearer; {_REMEDY}"
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


def _why_not(key: str) -> str:
    """What to say of a key that is no team's. Of the key only its id is repeated, which is no secret."""
    if is_key(key):
        return f"the key {key.split('_')[1]} is not valid, or not any more; ask who runs this server for one"
    return "what was sent is not a whole key: it begins with lossd_ and has 53 characters; was it cut?"


def rate_headers(gate: Gate, team: Team) -> list[tuple[bytes, bytes]]:
    """What an answer says of the rates of a team that has some."""
    left = gate.quotas.left(team.name)
    if not left:
        return []
    return [
        (b"ratelimit-policy", ", ".join(one.policy for one in left).encode()),
        (b"ratelimit", ", ".join(one.state for one in left).encode()),
    ]

"""All connections of a front end: whose they are, who gives way when there are many, and slow callers' ends.

A connection belongs to the address that it comes from until a request on it shows a valid key, and then to
that request's team. A team's connections are at most a share of all. An idle one then goes back to its
address, and any connection without a team may be closed when another needs its place, the one that has been
idle longest first. As teams never hold all connections, some are always left for those who have just come:
a new caller is let in, and refused only once its request says whose it is and what it wants.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import time
from collections import Counter, deque
from collections.abc import Collection, Iterable
from heapq import nlargest
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from operator import itemgetter
from typing import Final, Literal, Protocol

from lossd.api.http.request import UNIX_CLIENT
from lossd.setting_types import UNIX
from lossd.settings import Settings
from lossd.types import ErrorCode, RequestError

logger = logging.getLogger(__name__)

Reason = Literal["team_share", "address_share", "displaced", "full"]

_LOOK_SECONDS: Final = 0.25
_STILL_SECONDS: Final = 2.0
"""If a check is later than this, the process was paused, and no caller is charged."""
_LOOK_PIECE: Final = 2e-3
"""Seconds of looking before others in the event loop have their turn: thousands may be too slow at once."""
_SAY_SECONDS: Final = 1.0
_REST_SECONDS: Final = 20e-6
"""Rest after a search for idle connections, for each that was not: about 20 times what it takes to look."""
_ASKED: Final = 8
"""Teams, the largest first, that are asked to give a place."""
_SMALL: Final = 8
"""An owner is small if it holds less than this part of the reserved connections."""
_OTHER_DESCRIPTORS: Final = 128
"""Descriptors for everything but connections, and for connections that are being refused."""


class Connection(Protocol):
    """A connection, as seen by the one that counts it.

    Attributes:
        client: The address and port at its other end.
        owner: Whose it is: ``team vision``, ``address 10.0.0.7``, or ``proxy 10.0.0.2``.
        team: The name of its team; empty if it has none.
        idle_since: When it was made, or last had answered a request.
    """

    client: tuple[str, int] | None
    owner: str
    team: str
    idle_since: float

    @property
    def dispensable(self) -> bool:
        """Whether it may lose its place to another."""

    @property
    def served(self) -> bool:
        """Whether a request was answered on it."""

    def give_way(self, error: RequestError) -> None:
        """Close, with an error if a request has begun to arrive."""

    def look(self, now: float, seconds: float) -> None:
        """End it if its caller is too slow."""


class Observer(Protocol):
    """What is told about connections."""

    def connected(self, change: int) -> None:
        """Add to the number of connections; a negative number when they end."""

    def refused_connection(self, reason: str) -> None:
        """Count a connection that was refused."""


class _Group:
    """The connections of one owner, or all those without a team.

    Attributes:
        members: The connections, by their ids.
    """

    def __init__(self) -> None:
        self.members: dict[int, Connection] = {}
        # The dispensable ones of the last search, by when they became idle, and their ids.
        self._line: deque[tuple[float, int]] = deque()
        self._rests_until = 0.0

    def longest_idle(self) -> Connection | None:
        """Return the connection that has been idle longest and may lose its place, which it then has to.

        A search looks at all members, and what it finds is used up before the next one. The more members it
        looked at in vain, the longer is the pause until then.
        """
        found = self._next_in_line()
        if found is None and (now := time.monotonic()) >= self._rests_until:
            idle = [(one.idle_since, key) for key, one in self.members.items() if one.dispensable]
            self._line = deque(sorted(idle, key=itemgetter(0)))
            self._rests_until = now + _REST_SECONDS * (len(self.members) - len(idle))
            found = self._next_in_line()
        return found

    def _next_in_line(self) -> Connection | None:
        while self._line:
            since, key = self._line.popleft()
            one = self.members.get(key)
            if one is not None and one.idle_since == since and one.dispensable:
                return one
        return None


_NOBODY: Final = _Group()
"""The group of an owner who has none."""


class Connections:
    """The connections of a front end.

    Args:
        settings: The server's settings.
        most: The most connections there may be.
        observer: Is told of each.
    """

    def __init__(self, settings: Settings, most: int, observer: Observer) -> None:
        reserved = min(settings.reserved_connections, most // 4)
        self._most = most
        self._most_of_teams = most - reserved
        self._most_with_small = most - (reserved + 1) // 2
        self._small = max(1, reserved // _SMALL)
        self._share = max(1, min(int(settings.share * most), self._most_of_teams))
        self._address_share = most if settings.teams is None else self._share
        self._proxies = [ip_network(proxy) for proxy in settings.trusted_proxies if proxy != UNIX]
        self._trusts_unix = UNIX in settings.trusted_proxies
        self._observer = observer
        self._teams: dict[str, _Group] = {}
        self._addresses: dict[str, _Group] = {}
        self._without_team = _Group()
        self._of_teams = 0
        self._refused: Counter[str] = Counter()  # since the last line of the log
        self._last_refused = ""

    def begin(self, connection: Connection) -> RequestError | None:
        """Count a new connection. If there are too many, another gives way.

        Returns:
            None, or the error to refuse it with if none gives way.
        """
        connection.owner = owner = self._address(connection)
        group = self._addresses.get(owner, _NOBODY)
        own = len(group.members)
        if own >= self._address_share and not owner.startswith("proxy"):
            reason: Reason = "address_share"
        elif len(self._without_team.members) + self._of_teams >= self._most:
            reason = "displaced"
        else:
            self._count(connection)
            return None
        other = group.longest_idle() if own > self._small or reason == "address_share" else None
        other = other or self._without_team.longest_idle() or self._idle_of_largest(0)
        if other is None:
            return self._refusal("full", owner)
        self.end(other)
        other.give_way(self._refusal(reason, other.owner, counts=not other.served))
        self._count(connection)
        return None

    def claim(self, connection: Connection, team: str) -> bool:
        """Count a connection as a team's from now on; return False if the team may not have one more."""
        if id(connection) not in self._group(connection).members:
            return True  # it is lost, and nobody will see an answer
        owner = f"team {team}"
        if not self._make_room(connection, self._teams.get(owner, _NOBODY)):
            return False
        self._move(connection, owner, team)
        return True

    def refuse(self, team: str) -> RequestError:
        """Count a connection as refused that a team may not have, and return the error that says so."""
        owner = f"team {team}"
        full = len(self._teams.get(owner, _NOBODY).members) < self._share
        return self._refusal("full" if full else "team_share", owner)

    def end(self, connection: Connection) -> None:
        """Count a connection no longer, if it still is counted."""
        if self._remove(connection):
            self._observer.connected(-1)

    def is_proxy(self, connection: Connection) -> bool:
        """Return whether a connection comes from one of the trusted proxies, whosever it is."""
        return self._address(connection).startswith("proxy ")

    async def watch(self, connections: Collection[Connection]) -> None:
        """Let each connection check its caller, again and again, and say how many were refused."""
        loop = asyncio.get_running_loop()
        last = said = loop.time()
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            now = loop.time()
            seconds, last = now - last, now
            if now - said >= _SAY_SECONDS:
                said = now
                self._say()
            if seconds >= _STILL_SECONDS:
                continue
            until = time.monotonic() + _LOOK_PIECE
            for connection in tuple(connections):
                connection.look(now, seconds)
                if time.monotonic() > until:
                    await asyncio.sleep(0)
                    until = time.monotonic() + _LOOK_PIECE

    def _say(self) -> None:
        """Log how many connections were refused since the last line about them."""
        if not self._refused:
            return
        reasons = ", ".join(f"{number} {reason}" for reason, number in self._refused.most_common())
        logger.warning(
            "refused %d connections in the last second: %s; the last one of %s",
            self._refused.total(),
            reasons,
            self._last_refused,
        )
        self._refused.clear()

    def _refusal(self, reason: Reason, owner: str, *, counts: bool = True) -> RequestError:
        if counts:
            self._observer.refused_connection(reason)
            self._refused[reason] += 1
            self._last_refused = owner
        details = {
            "team_share": f"{owner} uses its share of the connections, {self._share} at a time; send fewer "
            "requests at once, or retry when some have been answered",
            "address_share": f"this address has used up its {self._address_share} connections without a key; "
            "send each request as soon as its connection is made, and its head in one piece",
            "displaced": "the server has reached its connection limit, and others need this one; send each "
            "request as soon as its connection is made, and its head in one piece",
            "full": "the server has reached its connection limit; retry, on another server if there is one",
        }
        return RequestError(ErrorCode.OVERLOADED, details[reason])

    def _idle_of_largest(self, least: int) -> Connection | None:
        """Return an idle connection of the largest team that has one, if it holds more than ``least``."""
        groups = (group for group in self._teams.values() if len(group.members) > least)
        for group in nlargest(_ASKED, groups, key=lambda group: len(group.members)):
            if (found := group.longest_idle()) is not None:
                return found
        return None

    def _address(self, connection: Connection) -> str:
        if connection.client == UNIX_CLIENT:
            return f"proxy {UNIX}" if self._trusts_unix else f"address {UNIX}"
        return owner_of(connection.client[0] if connection.client else "", self._proxies)

    def _make_room(self, connection: Connection, group: _Group) -> bool:
        """Return whether a team's group may take a connection; an idle one may go back to its address."""
        own = len(group.members)
        if own >= self._share:
            other = group.longest_idle()
        elif connection.team or self._of_teams < (
            self._most_with_small if own < self._small else self._most_of_teams
        ):
            return True
        else:
            other = self._idle_of_largest(own)
        if other is None:
            return False
        self._move(other, self._address(other), "")
        return True

    def _count(self, connection: Connection) -> None:
        self._add(connection)
        self._observer.connected(+1)

    def _move(self, connection: Connection, owner: str, team: str) -> None:
        self._remove(connection)
        connection.owner, connection.team = owner, team
        self._add(connection)

    def _add(self, connection: Connection) -> None:
        key = id(connection)
        self._groups(connection).setdefault(connection.owner, _Group()).members[key] = connection
        if connection.team:
            self._of_teams += 1
        else:
            self._without_team.members[key] = connection

    def _remove(self, connection: Connection) -> bool:
        """Remove a connection from its groups, and return whether it was there."""
        key = id(connection)
        group = self._group(connection)
        if group.members.pop(key, None) is None:
            return False
        if not group.members:
            del self._groups(connection)[connection.owner]
        if connection.team:
            self._of_teams -= 1
        else:
            del self._without_team.members[key]
        return True

    def _groups(self, connection: Connection) -> dict[str, _Group]:
        return self._teams if connection.team else self._addresses

    def _group(self, connection: Connection) -> _Group:
        return self._groups(connection).get(connection.owner, _NOBODY)


def owner_of(host: str, proxies: Iterable[IPv4Network | IPv6Network] = ()) -> str:
    """Return the owner of a connection without a team: an address, of IPv6 its network, or a proxy."""
    try:
        address = ip_address(host)
    except ValueError:
        return "address unknown"
    if isinstance(address, IPv6Address):
        address = address.ipv4_mapped or address
    if any(address in network for network in proxies):
        return f"proxy {address}"
    if isinstance(address, IPv6Address):
        return f"address {IPv6Address(address.packed[:8] + bytes(8))}/64"
    return f"address {address}"


def allow_descriptors(connections: int) -> int:
    """Raise the process's limit of descriptors for a number of connections.

    Returns:
        The number of connections that the process can hold, fewer if the limit cannot be raised enough.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + _OTHER_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        if soft < needed:
            fit = max(1, soft - _OTHER_DESCRIPTORS)
            logger.warning(
                "a process may have %d descriptors here, so a front end holds %d connections, not %d; "
                "raise the limit (ulimit -n), or lower LOSSD_MAX_CONNECTIONS",
                soft,
                fit,
                connections,
            )
            return fit
    return connections

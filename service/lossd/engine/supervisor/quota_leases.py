"""This server's leases of the teams' limits, renewed in a thread of the supervisor while the server runs.

Nothing waits for the store: front ends find the shares in memory. While the store cannot be asked the last
shares stay. A server that has not reached it yet uses whole limits.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Final

from lossd.engine.admission.quota_shares import QuotaShares
from lossd.engine.supervisor.outages import Outage
from lossd.engine.supervisor.teams_watcher import TeamsWatcher
from lossd.settings import Settings

if TYPE_CHECKING:  # redis-py is imported where there is a store
    from lossd.engine.admission.quota_store import QuotaStore

logger = logging.getLogger(__name__)

_PERIOD_SECONDS: Final = 0.2
_LONGEST_PERIOD: Final = 0.4  # so that a lease outlives an attempt that fails
_MANY_SERVERS: Final = 40  # more of them ask less often, since a lease's cost grows with their number
_STALL_SECONDS: Final = 5.0  # well over the store's own time limits
_END_SECONDS: Final = 1.5  # for a last question and an answer


class QuotaLeases(Outage):
    """Leases shares from the moment it is created.

    Args:
        store: The store.
        shares: The shares that the front ends find.
        teams: The teams.
    """

    what = "the quota store cannot be asked"

    def __init__(self, store: QuotaStore, shares: QuotaShares, teams: TeamsWatcher) -> None:
        super().__init__()
        self._store = store
        self._shares = shares
        self._teams = teams
        self._servers = 0  # how many share the limits; 0 before the first lease
        self._reason = ""
        self._failing = 0.0  # since when attempts fail; 0 if the last did not
        self._began = time.monotonic()  # the attempt in progress, or the last
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="quotas", daemon=True)
        self._thread.start()

    @property
    def failure(self) -> str | None:
        """The reason why no share can be leased, once that has lasted longer than a lease."""
        now, failing = time.monotonic(), self._failing
        silent = now - self._began > _STALL_SECONDS  # such as a name that is looked up
        if not silent and (not failing or now - failing <= self._store.lease_seconds):
            return None
        stays = "this server's last shares stay" if self._servers else "this server uses whole limits"
        return f"{'it does not answer' if silent else self._reason}; {stays}"

    def say(self, failure: str | None) -> None:
        """Log that the store cannot be asked, or can again."""
        if failure is None:
            logger.warning("the quota store %s answers again", self._store.shown)
        else:
            logger.error("the quota store %s cannot be asked: %s; retrying", self._store.shown, failure)

    def end(self) -> None:
        """Give the shares back. Gives up after a second or two."""
        self._ending.set()
        self._thread.join(_END_SECONDS)

    def _run(self) -> None:
        while True:
            self._began = time.monotonic()
            try:
                self._lease()
            except OSError as error:
                self._reason, self._failing = str(error), self._failing or self._began
            else:
                self._failing = 0.0
            period = _PERIOD_SECONDS * max(1.0, self._servers / _MANY_SERVERS)
            if self._ending.wait(min(period, _LONGEST_PERIOD)):
                break
        try:
            self._store.release()
        except OSError as error:
            logger.warning("shares of limits could not be given back: %s; they end by themselves", error)

    def _lease(self) -> None:
        teams = self._teams.teams
        self._shares.change(teams.teams, teams.rows)
        servers, shares = self._store.lease(self._shares.ask(leased=self._servers > 0))
        self._shares.take(shares)
        if servers != self._servers:
            logger.info("the teams' limits are shared by servers=%d, through %s", servers, self._store.shown)
            self._servers = servers


def hold_quotas(settings: Settings, fd: int, teams: TeamsWatcher | None) -> QuotaLeases | None:
    """Hold back the other servers' parts of the limits.

    Returns:
        The leases, if there is a store.
    """
    if teams is None:
        return None
    shares = QuotaShares(fd, settings.front_ends, leased=settings.quota_store is not None)
    if settings.quota_store is None:
        if settings.replicas > 1:
            shares.divide(settings.replicas)
        return None
    from lossd.engine.admission.quota_store import QuotaStore

    return QuotaLeases(QuotaStore(settings.quota_store), shares, teams)

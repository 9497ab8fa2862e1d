"""Shares of limits: what a server may use of them, and what it asks for, by a clock that the tests move."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from lossd.engine.admission.quota_memory import quotas_bytes
from lossd.engine.admission.quota_shares import OTHERS, QuotaShares
from lossd.engine.admission.quotas import Quotas
from lossd.engine.ipc.memory import create_memory
from lossd.teams import Limits, Team
from lossd.types import RequestError

FRONT_ENDS = 2
REQUESTS, ELEMENTS, PLACES, BYTES = (f"{kind} a" for kind in range(4))


class Server:
    """A server's front ends, and its supervisor's view."""

    def __init__(self, fd: int) -> None:
        self.now = 1000.0
        self.views = [
            Quotas(fd, FRONT_ENDS, index, lambda: self.now, leased=True) for index in range(FRONT_ENDS)
        ]
        self.shares = QuotaShares(fd, FRONT_ENDS, leased=True, clock=lambda: self.now)

    def set(self, **limits: float) -> None:
        team = Team("a", limits=Limits(**limits))  # type: ignore[arg-type] # by name
        for view in self.views:
            view.change({"a": team}, {"a": 3})
        self.shares.change({"a": team}, {"a": 3})

    def let_in(self, times: int, nbytes: int = 0) -> int:
        done = 0
        for i in range(times):
            try:
                self.views[i % FRONT_ENDS].enter("a", nbytes)
            except RequestError:
                continue
            done += 1
        return done

    def demand(self, limit: str, times: int = 0, seconds: float = 10.0) -> float:
        """What is asked for after so many requests a fifth of a second, for some seconds."""
        found = 0.0
        for _ in range(round(seconds / 0.2)):
            self.let_in(times)
            self.now += 0.2
            asked = self.shares.ask(leased=True)
            found = asked[limit].demand if limit in asked else 0.0
        return found


@pytest.fixture
def server() -> Iterator[Server]:
    fd = create_memory(quotas_bytes(FRONT_ENDS))
    yield Server(fd)
    os.close(fd)


def test_without_a_share_a_server_uses_whole_limits(server: Server) -> None:
    server.set(requests_per_second=50)
    assert server.let_in(100) == 50


def test_a_server_of_several_uses_its_part_for_teams_to_come_too(server: Server) -> None:
    server.shares.divide(4)
    server.set(requests_per_second=50, requests_in_flight=1000)
    assert server.let_in(100) == 12
    server.now += 10.0
    assert server.let_in(100) == 12
    assert server.views[0].left("a")[0].policy == '"requests";q=50;w=1'


def test_a_share_of_a_rate_is_a_rate(server: Server) -> None:
    server.set(requests_per_second=50)
    server.shares.take({OTHERS: 0.5, REQUESTS: 0.2})
    assert server.let_in(100) == 10
    server.now += 1.0
    assert server.let_in(100) == 10


def test_a_share_that_comes_back_brings_no_second_burst(server: Server) -> None:
    server.set(requests_per_second=50)
    server.shares.take({OTHERS: 1.0})
    assert server.let_in(100) == 50
    server.shares.take({OTHERS: 1.0, REQUESTS: 0.0})
    server.now += 100.0  # another server has it all
    server.shares.take({OTHERS: 1.0, REQUESTS: 1.0})
    assert server.let_in(100) == 0
    server.now += 0.5
    assert server.let_in(100) == 25


def test_with_no_share_a_team_that_uses_nothing_may_begin(server: Server) -> None:
    server.set(requests_per_second=50, elements_per_second=1000, requests_in_flight=5, bytes_in_flight=100)
    server.shares.take({OTHERS: 0.0})
    entry = server.views[0].enter("a", 80)
    with pytest.raises(RequestError):
        server.views[1].enter("a", 0)
    server.views[0].charge("a", 900)
    server.views[0].leave(entry)
    with pytest.raises(RequestError) as caught:
        server.views[1].enter("a", 0)
    assert caught.value.retry_after is not None
    assert caught.value.retry_after < 3.0  # a share will follow


def test_places_and_bytes_are_shared(server: Server) -> None:
    server.set(requests_in_flight=10)
    server.shares.take({OTHERS: 0.35})
    assert server.let_in(10) == 3
    server.set(bytes_in_flight=100)
    server.shares.take({OTHERS: 0.5})
    for view in server.views:
        view.leave(None)
    assert server.let_in(1, 60) == 1  # alone
    assert server.let_in(1, 1) == 0


def test_a_rates_demand_is_what_is_sent_whether_let_in_or_not(server: Server) -> None:
    server.set(requests_per_second=50)
    assert server.demand(REQUESTS, 20) == pytest.approx(2.0, rel=0.01)
    server.now += 100.0  # nothing is owed
    server.shares.take({OTHERS: 0.01})
    assert server.demand(REQUESTS, 20) == pytest.approx(2.0, rel=0.02)
    assert server.demand(REQUESTS, 0) == 0.0


def test_elements_that_are_owed_are_asked_for(server: Server) -> None:
    server.set(elements_per_second=1000)
    server.shares.take({OTHERS: 0.1})
    server.views[0].charge("a", 50_000)
    assert server.demand(ELEMENTS, 0, 2.0) == pytest.approx(49.7, rel=0.05)


def test_elements_refused_count_as_many_as_the_last(server: Server) -> None:
    server.set(elements_per_second=1000)
    server.shares.take({OTHERS: 0.5})
    for _ in range(100):
        for view in server.views:
            try:
                view.leave(view.enter("a", 0))
            except RequestError:
                continue
            view.charge("a", 300)
        server.now += 0.2
        asked = server.shares.ask(leased=True)
    assert asked[ELEMENTS].demand == pytest.approx(3.0, rel=0.2)  # two of 300 in a fifth of a second


def test_what_is_in_flight_is_asked_for_as_long(server: Server) -> None:
    server.set(requests_in_flight=10, bytes_in_flight=1000)
    entries = [server.views[i % 2].enter("a", 100) for i in range(5)]
    server.now += 5.0
    asked = server.shares.ask(leased=True)
    assert (asked[PLACES].in_use, asked[BYTES].in_use) == (0.5, 0.5)
    assert asked[PLACES].demand == pytest.approx(0.5, rel=0.01)
    for i, entry in enumerate(entries):
        server.views[i % 2].leave(entry)
    server.shares.take({OTHERS: 1.0})
    server.now += 10.0
    assert set(server.shares.ask(leased=True)) == {OTHERS}


def test_before_a_lease_nothing_is_held(server: Server) -> None:
    server.set(requests_per_second=50)
    server.let_in(5)
    server.now += 0.2
    server.shares.ask(leased=False)
    server.let_in(5)
    server.now += 0.2
    assert {asked.share for asked in server.shares.ask(leased=False).values()} == {0.0}

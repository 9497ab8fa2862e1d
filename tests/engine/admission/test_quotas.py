"""Rates and what is in flight, over several front ends, by a clock that the tests move."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from lossd.engine.admission.quota_memory import quotas_bytes
from lossd.engine.admission.quotas import Quotas
from lossd.engine.ipc.memory import create_memory
from lossd.teams import MOST_TEAMS, Limits, Team
from lossd.types import RequestError

FRONT_ENDS = 3


class Desk:
    """The front ends' views of one memory, and the clock."""

    def __init__(self, fd: int) -> None:
        self.now = 1000.0
        self.fd = fd
        self.views = [self.view(index) for index in range(FRONT_ENDS)]

    def view(self, index: int) -> Quotas:
        return Quotas(self.fd, FRONT_ENDS, index, lambda: self.now)

    def set(self, **limits: float) -> None:
        team = Team("a", limits=Limits(**limits))  # type: ignore[arg-type] # by name
        for view in self.views:
            view.change({"a": team}, {"a": MOST_TEAMS - 1})

    def let_in(self, times: int, nbytes: int = 0) -> int:
        """How many of so many requests, over all front ends in turn, are let in."""
        done = 0
        for i in range(times):
            try:
                self.views[i % FRONT_ENDS].enter("a", nbytes)
            except RequestError:
                continue
            done += 1
        return done


@pytest.fixture
def desk() -> Iterator[Desk]:
    fd = create_memory(quotas_bytes(FRONT_ENDS))
    yield Desk(fd)
    os.close(fd)


def refused(desk: Desk, nbytes: int = 0) -> RequestError:
    with pytest.raises(RequestError) as caught:
        desk.views[0].enter("a", nbytes)
    return caught.value


def test_a_team_without_limits_is_counted_and_never_refused(desk: Desk) -> None:
    desk.set()
    entries = [desk.views[i % FRONT_ENDS].enter("a", 1 << 40) for i in range(1000)]
    assert [view.in_flight("a") for view in desk.views] == [(1000, 1000 << 40)] * FRONT_ENDS
    assert desk.views[0].left("a") == []
    for i, entry in enumerate(entries):
        desk.views[i % FRONT_ENDS].leave(entry)
    assert desk.views[1].in_flight("a") == (0, 0)


def test_a_team_that_is_not_known_is_not_counted(desk: Desk) -> None:
    desk.set()
    assert desk.views[0].enter("unheard of", 1) is None
    desk.views[0].leave(None)
    assert desk.views[0].in_flight("unheard of") == (0, 0)


def test_a_rate_of_requests_holds_over_all_front_ends(desk: Desk) -> None:
    desk.set(requests_per_second=50)
    assert desk.let_in(200) == 50
    desk.now += 0.5
    assert desk.let_in(200) == 25
    desk.now += 60.0
    assert desk.let_in(200) == 50  # what was not used for a minute is not saved up


def test_a_slow_rate_lets_one_in_at_a_time_and_says_when(desk: Desk) -> None:
    desk.set(requests_per_second=0.1)
    assert desk.let_in(5) == 1
    desk.now += 4.0
    fault = refused(desk)
    assert fault.code == "rate_limited"
    assert fault.retry_after == pytest.approx(6.0)
    desk.now += 6.0
    assert desk.let_in(5) == 1


def test_elements_are_charged_afterwards_and_their_debt_is_waited_out(desk: Desk) -> None:
    desk.set(elements_per_second=1000)
    assert desk.let_in(2) == 2
    desk.views[1].charge("a", 500)
    assert desk.let_in(1) == 1
    desk.views[2].charge("a", 3500)
    fault = refused(desk)
    assert fault.code == "rate_limited"
    assert fault.retry_after == pytest.approx(3.0)
    desk.now += 2.9
    assert desk.let_in(1) == 0
    desk.now += 0.2
    assert desk.let_in(1) == 1


def test_what_is_owed_follows_the_rate(desk: Desk) -> None:
    desk.set(elements_per_second=1000)
    desk.views[0].charge("a", 1_000_000)
    assert refused(desk).retry_after == pytest.approx(999.0)
    desk.set(elements_per_second=1e9)
    assert desk.let_in(1) == 1
    desk.set(requests_per_second=0.001)
    assert desk.let_in(2) == 1
    desk.set(requests_per_second=10)
    assert desk.let_in(20) == 9


def test_those_let_in_together_are_not_all_charged(desk: Desk) -> None:
    desk.set(elements_per_second=1000)
    assert desk.let_in(2) == 2
    desk.views[0].check_elements("a")
    desk.views[0].charge("a", 5000)
    with pytest.raises(RequestError, match="elements a second"):
        desk.views[1].check_elements("a")
    desk.views[1].check_elements("another")


def test_what_is_in_flight_is_counted_over_all_front_ends(desk: Desk) -> None:
    desk.set(requests_in_flight=4, bytes_in_flight=100)
    entries = [desk.views[i % FRONT_ENDS].enter("a", 20) for i in range(4)]
    assert refused(desk).code == "too_many_in_flight"
    desk.views[0].leave(entries[0])
    assert refused(desk, 41).code == "too_many_in_flight"
    desk.views[1].enter("a", 40)
    assert refused(desk, 101).code == "body_too_large"  # waiting would not help it


def test_a_refused_request_costs_nothing(desk: Desk) -> None:
    desk.set(requests_per_second=10, requests_in_flight=1)
    entry = desk.views[0].enter("a", 1)
    assert desk.let_in(20) == 0
    desk.views[0].leave(entry)
    assert desk.views[0].left("a")[0].state.startswith('"requests";r=9;')


def test_what_a_dead_front_end_had_in_flight_is_its_successors_no_more(desk: Desk) -> None:
    desk.set(requests_in_flight=2)
    assert desk.let_in(3) == 2  # of the first and the second front end
    desk.views[0] = desk.view(0)
    desk.set(requests_in_flight=2)
    assert desk.let_in(3) == 1


def test_limits_that_come_and_go_leave_the_counts_right(desk: Desk) -> None:
    desk.set()
    before = desk.views[0].enter("a", 10)
    desk.set(requests_in_flight=1)
    assert refused(desk).code == "too_many_in_flight"  # by what was let in without a limit
    desk.views[0].leave(before)
    counted = desk.views[0].enter("a", 10)
    assert refused(desk).code == "too_many_in_flight"
    desk.set()
    desk.views[0].leave(counted)
    desk.set(requests_in_flight=1)
    assert desk.let_in(3) == 1


def test_what_is_left_is_said_in_the_headers_fields(desk: Desk) -> None:
    desk.set(requests_per_second=50, elements_per_second=0.25)
    desk.let_in(10)
    desk.views[0].charge("a", 2)
    requests, elements = desk.views[1].left("a")
    assert (requests.policy, requests.state) == ('"requests";q=50;w=1', '"requests";r=40;t=1')
    assert (elements.policy, elements.state) == ('"elements";q=1;qu="elements";w=4', '"elements";r=0;t=8')


_RUSH = """
import sys
from lossd.engine.admission.quotas import Quotas
from lossd.types import RequestError
from lossd.teams import MOST_TEAMS, Limits, Team

quotas = Quotas(int(sys.argv[1]), 3, int(sys.argv[2]), lambda: 1000.0)
quotas.change({"a": Team("a", limits=Limits(requests_per_second=5000))}, {"a": 7})
done = 0
for _ in range(5000):
    try:
        quotas.enter("a", 1)
        done += 1
    except RequestError:
        pass
print(done)
"""


def test_processes_that_rush_in_together_get_no_more_than_there_is(desk: Desk) -> None:
    rushes = [
        subprocess.Popen(
            [sys.executable, "-c", _RUSH, str(desk.fd), str(index)],
            pass_fds=[desk.fd],
            stdout=subprocess.PIPE,
            text=True,
        )
        for index in range(FRONT_ENDS)
    ]
    counts = [int(rush.communicate(timeout=60)[0]) for rush in rushes]
    assert sum(counts) == 5000, counts

"""When a request is sent again, and when it is not."""

import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import numpy as np
import pytest

import lossd_client
from client.conftest import Ask
from client.playback import SCALAR, Answer, Playback
from lossd_client import LossClient, Retry, Timeout
from lossd_client._http.attempts import RetryState

X, Y = np.zeros((2, 3)), np.ones((2, 3))
QUICK = Retry(first_wait=0.001, longest_wait=0.002, per_second=1000.0)
OVERLOADED = Answer.of_problem(503, "overloaded", retryable=True)


@pytest.mark.parametrize(
    "failure",
    [
        OVERLOADED,
        Answer.of_problem(408, "upload_too_slow", retryable=True),
        Answer.of_problem(429, "rate_limited", retryable=True),
        Answer.of_problem(504, "deadline_exceeded", retryable=True),
        Answer(b"<html>Bad gateway</html>", "text/html", 502),
        Answer(b"Internal Server Error", "text/plain", 500),
        Answer(b"", hangs_up=True),
        Answer(b"{", declared=100),
    ],
    ids=["503", "408", "429", "504", "502", "500 of Ray Serve", "hung up", "broken off"],
)
def test_what_may_pass_is_tried_again(ask: Ask, playback: Playback, failure: Answer) -> None:
    playback.answers = [failure, failure]
    result = ask(playback.url, "focal", X, Y, options={"retry": QUICK})
    assert float(result) == SCALAR["loss"]
    assert len(playback.arrivals) == 3
    assert len({arrival.body for arrival in playback.arrivals}) == 1
    assert len({arrival.headers["x-request-id"] for arrival in playback.arrivals}) == 1


@pytest.mark.parametrize(
    "failure",
    [
        Answer.of_problem(422, "bad_shape"),
        Answer.of_problem(500, "internal_error"),
        Answer.of_problem(500, "worker_crashed"),
        Answer.of_problem(504, "deadline_exceeded"),
        Answer.of_problem(507, "out_of_memory"),
        Answer(b"<html>", "text/html", 500),
        Answer(b"no model", "text/plain", 500),
        Answer(b"<html>", "text/html", 503),
        Answer(b"<html>", "text/html", 504),
        Answer(b"<html>", "text/html", 200),
        Answer(b"", "text/html", 302, {"Location": "/elsewhere"}),
        Answer(b"not gzip", headers={"Content-Encoding": "gzip"}),
    ],
    ids=lambda answer: f"{answer.status}-{answer.body[:60]!r}",
)
def test_nothing_else_is(ask: Ask, playback: Playback, failure: Answer) -> None:
    playback.answers = [failure]
    with pytest.raises(lossd_client.LossdError):
        ask(playback.url, "focal", X, Y, options={"retry": QUICK})
    assert len(playback.arrivals) == 1


def test_an_answer_that_does_not_come_in_time_is_not_waited_for_twice(ask: Ask, playback: Playback) -> None:
    playback.hold.clear()
    with pytest.raises(lossd_client.TimedOut) as caught:
        ask(playback.url, "bce", X, Y, options={"retry": QUICK, "timeout": Timeout(read=0.2)})
    assert not caught.value.retryable
    assert len(playback.arrivals) == 1


def test_the_last_failure_is_raised_and_says_how_many_there_were(ask: Ask, playback: Playback) -> None:
    playback.answer = OVERLOADED
    with pytest.raises(lossd_client.Unavailable) as caught:
        ask(playback.url, "bce", X, Y, options={"retry": replace(QUICK, attempts=4)})
    assert len(playback.arrivals) == 4
    assert caught.value.__notes__ == ["This was attempt 4."]


@pytest.fixture
def refusing() -> Iterator[str]:
    """An address where nobody listens."""
    with socket.socket() as taken:  # bound, not listening
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def test_a_server_that_refuses_connections_may_be_starting(
    ask: Ask, refusing: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(lossd_client.ConnectionFailed) as caught:
        ask(refusing, "bce", X, Y, options={"retry": replace(QUICK, attempts=100, first_contact=2)})
    assert caught.value.__notes__ == ["This was attempt 12."]
    [record] = caplog.records
    assert (record.name, record.levelname) == ("lossd_client", "WARNING")
    assert re.match(rf"{refusing}: cannot connect .*; trying again, 11 times at most", record.getMessage())
    with pytest.raises(lossd_client.ConnectionFailed) as caught:
        ask(refusing, "bce", X, Y, options={"retry": replace(QUICK, first_refusal=4)})
    assert caught.value.__notes__ == ["This was attempt 4."]
    with pytest.raises(lossd_client.ConnectionFailed) as caught:
        ask(refusing, "bce", X, Y, options={"retry": None})
    assert not hasattr(caught.value, "__notes__")


def test_a_server_that_comes_up_is_waited_for(ask: Ask) -> None:
    with Playback() as gone:
        url = gone.url
    port = int(url.rpartition(":")[2])
    with ExitStack() as stack:
        starting = threading.Timer(0.5, lambda: stack.enter_context(Playback(port)))
        starting.start()
        retry = Retry(attempts=100, first_contact=1, first_refusal=100, longest_wait=0.25)
        assert float(ask(url, "bce", X, Y, options={"retry": retry})) == SCALAR["loss"]
        starting.join()


@pytest.mark.parametrize("url", ["http://nowhere.invalid", "an address that hangs up"])
def test_an_address_that_was_never_a_servers_is_given_up_sooner(
    ask: Ask, playback: Playback, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    playback.answer = Answer(b"", hangs_up=True)
    url = playback.url if "hangs up" in url else url
    with pytest.raises(lossd_client.ConnectionFailed) as caught:
        ask(url, "bce", X, Y, options={"retry": replace(QUICK, attempts=100, first_contact=2)})
    assert caught.value.__notes__ == ["This was attempt 2."]
    assert not caplog.records


def test_the_server_says_how_long_to_wait(ask: Ask, playback: Playback) -> None:
    playback.answers = [replace(OVERLOADED, headers={"Retry-After": "1"})]
    began = time.monotonic()
    ask(playback.url, "bce", X, Y, options={"retry": QUICK})
    assert time.monotonic() - began >= 1.0


@pytest.mark.slow
def test_a_date_says_it_too(ask: Ask, playback: Playback) -> None:
    then = datetime.now(UTC) + timedelta(seconds=3)  # the header has whole seconds: 2 or more are left
    playback.answers = [replace(OVERLOADED, headers={"Retry-After": format_datetime(then, usegmt=True)})]
    began = time.monotonic()
    ask(playback.url, "bce", X, Y, options={"retry": QUICK})
    assert time.monotonic() - began >= 1.0


@pytest.mark.parametrize("asked_for", ["301", "1000000000000", "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_a_wait_that_is_too_long_is_not_begun(ask: Ask, playback: Playback, asked_for: str) -> None:
    playback.answer = replace(OVERLOADED, headers={"Retry-After": asked_for})
    with pytest.raises(lossd_client.Unavailable) as caught:
        ask(playback.url, "bce", X, Y, options={"retry": QUICK})
    assert caught.value.retry_after is not None
    assert caught.value.retry_after > 300
    assert len(playback.arrivals) == 1


def test_the_deadline_goes_along_and_shrinks(ask: Ask, playback: Playback) -> None:
    playback.answers = [OVERLOADED, OVERLOADED]
    ask(playback.url, "bce", X, Y, options={"retry": QUICK, "timeout": Timeout(deadline=60)})
    sent = [int(arrival.headers["x-timeout-ms"]) for arrival in playback.arrivals]
    assert len(sent) == 3
    assert 60_000 > sent[0] > sent[1] > sent[2] > 0


def test_without_a_deadline_none_goes_along(ask: Ask, playback: Playback) -> None:
    ask(playback.url, "bce", X, Y)
    assert "x-timeout-ms" not in playback.last.headers


def test_a_wait_beyond_the_deadline_is_not_begun(ask: Ask, playback: Playback) -> None:
    playback.answer = replace(OVERLOADED, headers={"Retry-After": "3600"})
    with pytest.raises(lossd_client.Unavailable) as caught:
        ask(playback.url, "bce", X, Y, options={"retry": QUICK, "timeout": Timeout(deadline=30)})
    assert caught.value.retry_after == 3600
    assert len(playback.arrivals) == 1


def test_the_deadline_is_kept_whatever_the_steps_may_take(ask: Ask, playback: Playback) -> None:
    playback.hold.clear()
    began = time.monotonic()
    with pytest.raises(lossd_client.TimedOut):
        ask(playback.url, "bce", X, Y, options={"timeout": Timeout(read=None, deadline=0.3)})
    assert 0.3 <= time.monotonic() - began < 8


def test_the_budget_is_the_clients_and_its_copies_with_other_options(playback: Playback) -> None:
    meagre = replace(QUICK, burst=3, per_second=0.001)
    playback.answer = OVERLOADED
    with LossClient(playback.url, retry=meagre) as client:
        for each in (client, client.with_options(api_key="k"), client):
            with pytest.raises(lossd_client.Unavailable):
                each.bce(X, Y)
    assert len(playback.arrivals) == 3 + 3  # three first attempts, and all that the budget had


def test_a_budget_that_is_spent_makes_retries_wait_their_turn() -> None:
    line, retry = RetryState(), Retry(burst=2, per_second=1.0, longest_wait=2.5)
    turns = [line.reserve(retry) for _ in range(5)]
    assert turns[:2] == [0.0, 0.0]
    assert turns[2:4] == [pytest.approx(1, abs=0.5), pytest.approx(2, abs=0.5)]
    assert turns[4] is None


def test_waits_grow_and_differ() -> None:
    retry = Retry(first_wait=1.0, longest_wait=8.0)
    for failures, whole in ((1, 1.0), (2, 2.0), (4, 8.0), (5, 8.0), (5000, 8.0)):
        waits = {retry.wait(failures) for _ in range(20)}
        assert len(waits) > 1
        assert all(whole / 2 <= wait <= whole for wait in waits)


@pytest.mark.parametrize(
    "given",
    [
        {"attempts": 0},
        {"first_contact": 0},
        {"first_refusal": 0},
        {"first_wait": 0},
        {"longest_wait": float("inf")},
        {"burst": 0},
        {"longest_retry_after": 0},
    ],
)
def test_numbers_that_make_no_sense(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^Retry: "):
        Retry(**given)

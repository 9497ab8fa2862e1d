"""The bar for those who want one."""

import io
import logging
import re
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from client.conftest import Ask
from client.playback import SCALAR, Answer, Playback
from lossd_client import LossClient, Progress, Retry, progress_bar
from lossd_client.testing import FakeTransport

X, Y = np.zeros((4, 3)), np.zeros((4, 3))
THROTTLED = replace(Answer.of_problem(429, "rate_limited", retryable=True), headers={"Retry-After": "1"})
BUSY = Answer.of_problem(503, "overloaded", retryable=True)
QUICK = Retry(first_wait=0.02, longest_wait=0.04)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _score(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    rows = [0.0] * 40
    with (
        progress_bar("Weighing") as show,
        LossClient(transport=FakeTransport, request_bytes=160, progress=show) as client,
    ):
        assert client.bce(rows, rows).count == 40
        show(Progress(5, None, 5, 1))  # of an endless stream
    return stream.getvalue()


def test_on_a_terminal_it_shows_how_many_rows_are_done(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = _score(Terminal(), monkeypatch)
    assert "Weighing" in shown
    assert "rows" in shown


def test_in_a_pipe_it_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _score(io.StringIO(), monkeypatch) == ""


def test_a_callback_that_fails_ends_the_call() -> None:
    def fail(progress: Progress) -> None:
        raise RuntimeError("enough")

    with LossClient(transport=FakeTransport, progress=fail, request_bytes=16) as client:
        with pytest.raises(RuntimeError, match="enough"):
            client.bce([0.0] * 9, [0] * 9)
        with pytest.raises(RuntimeError, match="enough"):
            client.bce([0.0], [0])


@pytest.mark.parametrize("splits", [False, True], ids=["one request", "several requests"])
def test_it_says_what_is_waited_for_and_how_long(ask: Ask, playback: Playback, splits: bool) -> None:
    playback.answers = [THROTTLED]
    if splits:
        playback.answer = Answer.of_json({**SCALAR, "count": 6})
    shown: list[Progress] = []
    threads: set[int] = set()

    def show(progress: Progress) -> None:
        shown.append(progress)
        threads.add(threading.get_ident())

    size = 2 * 3 * 8 * 2 if splits else 1 << 20
    options = {
        "retry": QUICK,
        "progress": show,
        "request_bytes": size,
        "shrink_targets": False,
        "concurrency": 1,
    }
    ask(playback.url, "bce", X, Y, options=options)
    assert (shown[0].rows, shown[0].total_rows, shown[0].requests) == (0, 4, 0)
    assert shown[0].reason == "throttled"
    assert shown[0].resumes_in is not None
    assert 0.9 < shown[0].resumes_in < 1.5
    assert [each.resumes_in for each in shown[1:]] == [None] * (2 if splits else 1)
    assert shown[-1].rows == 4
    assert threads == {threading.get_ident()}


def test_what_is_told_is_the_wait_of_the_next_request(ask: Ask, playback: Playback) -> None:
    # All parts are refused at first. The first one's wait is told, the others' once they are awaited.
    playback.answers = [BUSY] * 4
    playback.answer = Answer.of_json({**SCALAR, "count": 3})
    shown: list[Progress] = []
    slow = Retry(first_wait=0.2, longest_wait=0.4)
    options = {"retry": slow, "progress": shown.append, "request_bytes": 48, "shrink_targets": False}
    ask(playback.url, "bce", X, Y, options=options)
    assert len(playback.arrivals) == 8
    assert [each.rows for each in shown if each.resumes_in is None] == [1, 2, 3, 4]
    waits = [each for each in shown if each.resumes_in is not None]
    assert waits[0].rows == 0
    assert {each.reason for each in waits} == {"the server is busy"}
    assert all(0 < (each.resumes_in or 0) <= 0.4 for each in waits)


@pytest.mark.waits
def test_a_wait_that_is_partly_over_is_told_as_what_is_left(playback: Playback) -> None:
    playback.answers = [THROTTLED]
    shown: list[Progress] = []

    def batches() -> Iterator[tuple[Any, Any]]:
        yield X, Y
        while not playback.arrivals:
            time.sleep(0.01)
        time.sleep(0.3)  # of a second: nobody awaits the first yet
        yield X, Y

    with LossClient(playback.url, retry=QUICK, progress=shown.append, concurrency=2) as client:
        assert len(list(client.iter_batches("bce", batches()))) == 2
    [left] = [each.resumes_in for each in shown if each.resumes_in is not None]
    assert 0 < left < 0.8


def test_a_server_that_is_away_is_a_reason_too(ask: Ask, playback: Playback) -> None:
    playback.answers = [Answer(b"", hangs_up=True)]
    shown: list[Progress] = []
    ask(playback.url, "bce", X, Y, options={"retry": QUICK, "progress": shown.append})
    assert [each.reason for each in shown] == ["the server cannot be reached", ""]


def test_on_a_terminal_the_bar_counts_down(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    with progress_bar() as show:
        show(Progress(5, 10, 5, 1))
        show(Progress(5, 10, 5, 1, resumes_in=3.0, reason="throttled"))
        time.sleep(1.5)
        before = stream.getvalue()
        show(Progress(10, 10, 10, 2))
        time.sleep(0.5)  # a frame or two may be under way
        over = len(stream.getvalue())
        time.sleep(0.5)
    seconds = [int(found) for found in re.findall(r"throttled, resuming in (\d+) s", before)]
    assert {3, 2} <= set(seconds)
    assert seconds == sorted(seconds, reverse=True)
    assert "rows" in stream.getvalue()[over:]
    assert "resuming" not in stream.getvalue()[over:]


def test_in_a_pipe_one_line_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with progress_bar() as show:
        for wait in (None, 0.4, 25.2, 26.0):
            show(Progress(5, 10, 5, 1, resumes_in=wait, reason="" if wait is None else "throttled"))
    assert stream.getvalue() == ""
    assert [(each.name, each.levelno, each.getMessage()) for each in caplog.records] == [
        ("lossd_client", logging.WARNING, "throttled, resuming in 26 s")
    ]

"""What the logger `lossd_client` says, and what it never does."""

import logging
import os
import re
import socket
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

import lossd_client
from client.conftest import Ask
from client.playback import Answer, Playback
from lossd_client import Retry

X, Y = np.full((2, 3), 0.123456), np.ones((2, 3))
QUICK = Retry(first_wait=0.001, longest_wait=0.002, per_second=1000.0)
KEY = "lossd_k3mv9x2q_" + "S" * 32 + "abcdef"
THROTTLED = replace(
    Answer.of_problem(429, "rate_limited", retryable=True, detail="a detail"), headers={"Retry-After": "0"}
)


def _lines(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [
        each.getMessage() for each in caplog.records if each.name == "lossd_client" and each.levelno == level
    ]


def test_a_line_for_each_attempt_and_each_retry(
    ask: Ask, playback: Playback, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="lossd_client")
    playback.answers = [THROTTLED, Answer(b"", hangs_up=True)]
    url = playback.url.replace("//", "//user:hidden@")
    options = {"retry": QUICK, "api_key": KEY, "default_headers": {"X-Secret": "hidden"}}
    ask(url, "focal", X, Y, gamma=2.25, pos_weight=[0.654321] * 3, options=options)
    request_id = playback.last.headers["x-request-id"]
    what = f"POST {playback.url.replace('//', '//[secure]@')}/focal, request id {request_id}"
    debug, info = _lines(caplog, logging.DEBUG), _lines(caplog, logging.INFO)
    assert len(debug) == 3
    assert re.fullmatch(re.escape(what) + r": 429 in \d+\.\d ms", debug[0])
    assert debug[1].startswith(f"{what}: http://[secure]@")
    assert re.fullmatch(re.escape(what) + r": 200 in \d+\.\d ms", debug[2])
    assert len(info) == 2
    assert re.fullmatch(
        re.escape(what) + r": throttled \(429 rate_limited\); trying again in [\de.-]+ s", info[0]
    )
    assert info[1].startswith(f"{what}: http://[secure]@")
    said = "".join(each.getMessage() for each in caplog.records if each.name == "lossd_client")
    for secret in (KEY, KEY[15:40], "hidden", "0.123456", "0.654321", "2.25"):
        assert secret not in said


def test_a_refusal_is_not_repeated_word_for_word(
    ask: Ask, playback: Playback, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="lossd_client")
    playback.answer = Answer.of_problem(422, "target_out_of_range", detail="1.75 is outside [0, 1]")
    with pytest.raises(lossd_client.InvalidRequest):
        ask(playback.url, "bce", X, Y)
    [line] = _lines(caplog, logging.DEBUG)
    assert ": 422 in " in line
    assert "1.75" not in line


def _stderr(level: str | None, code: str, playback: Playback) -> str:
    own = {} if level is None else {"LOSSD_LOG": level}
    environment = {**os.environ, "LOSSD_BASE_URL": playback.url, **own}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    return done.stderr


CALL = "from lossd_client import LossClient\nLossClient().info()\n"


def test_the_environment_may_show_them(playback: Playback) -> None:
    shown = _stderr("debug", CALL, playback)
    assert re.search(r"lossd_client DEBUG: GET http://127\.0\.0\.1:\d+/info, request id \w+: 200 in", shown)
    assert shown.count("DEBUG") == 1
    assert _stderr(None, CALL, playback) == ""
    assert _stderr("info", CALL, playback) == ""
    own = "import logging\nlogging.basicConfig(format='mine: %(message)s')\n" + CALL
    lines = _stderr("debug", own, playback).splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("mine: GET ")
    assert _stderr("loud", CALL, playback) == "LOSSD_LOG is neither debug nor info, and shows nothing\n"


def test_retries_of_a_refused_connection_warn_once_and_inform_each_time(
    ask: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="lossd_client")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(lossd_client.ConnectionFailed):
            ask(url, "info", options={"retry": replace(QUICK, first_refusal=3)})
    assert len(_lines(caplog, logging.WARNING)) == 1
    assert len(_lines(caplog, logging.INFO)) == 2

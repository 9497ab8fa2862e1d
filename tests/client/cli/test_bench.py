"""`lossd bench`: its figures, and what a busy or a failing server does to them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from client.cli.scripted import ALIVE, Answers, scripted
from command import app
from lossd_client import LossClient
from lossd_client.cli.bench.bodies import request_of
from lossd_client.cli.bench.load import Measured

FORMATS = ["npy float32", "npy, targets bool", "arrow", "json"]
OPTIONS = ("--seconds", "0.1", "--elements", "1000")


def bench(url: str, *args: str) -> Result:
    return CliRunner().invoke(app, ["bench", *args, "--url", url])


def test_every_format_and_size_is_measured(base_url: str) -> None:
    done = bench(base_url, *OPTIONS, "--elements", "55", "--connections", "2", "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    said = json.loads(done.stdout)
    assert (said["server"], said["connections"], said["seconds"]) == (base_url, 2, 0.1)
    assert "client and network are part of them" in said["note"].replace("\n", " ")
    rows = said["measurements"]
    assert [(row["format"], row["elements"]) for row in rows] == [
        (form, elements) for form in FORMATS for elements in (1000, 50)
    ]
    for row in rows:
        assert row["requests"] > 0
        assert row["refused"] == 0
        assert row["p50_ms"] > 0
        assert row["elements_per_second"] > 0


def test_the_table(base_url: str) -> None:
    done = bench(base_url, *OPTIONS)
    assert (done.exit_code, done.stderr) == (0, "")
    for shown in (*FORMATS, "elements/s", "p50 ms", "p95 ms", "p99 ms", "client and network"):
        assert shown in " ".join(done.stdout.split())


def test_the_same_elements_in_every_format(base_url: str) -> None:
    with LossClient(base_url) as client:
        transport, _ = client._connections.get()
        answers = [
            transport.send(request_of(form, 1000, base_url, {}), client._settings.timeout) for form in FORMATS
        ]
    losses = {json.loads(answer.body)["sum"] for answer in answers}
    assert len(losses) == 1


def test_a_percentile_is_told_only_where_there_are_enough_times() -> None:
    assert [Measured().percentile(percent) for percent in (50, 95, 99)] == [None, None, None]
    some = Measured(times=[float(number) for number in range(1, 20)])
    assert [some.percentile(percent) for percent in (50, 95, 99)] == [10.0, None, None]
    many = Measured(times=[float(number) for number in range(100, 0, -1)])
    assert [many.percentile(percent) for percent in (50, 95, 99)] == [50.0, 95.0, 99.0]


BUSY: dict[str, Any] = {"code": "overloaded", "retryable": True, "detail": "later"}


def test_a_failing_server_ends_it() -> None:
    with scripted({**ALIVE, "/focal": (422, {"code": "bad_shape", "detail": "no"})}) as url:
        done = bench(url, *OPTIONS, "--json")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "422 bad_shape" in done.stderr


@pytest.mark.parametrize(
    ("answers", "code"),
    [
        ({**ALIVE, "/focal": (503, BUSY)}, 0),
        ({**ALIVE, "/readyz": (503, {})}, 1),
        ({**ALIVE, "/info": (401, {"code": "unauthorized", "detail": "no"})}, 1),
    ],
)
def test_busy_not_ready_and_closed_to_us(answers: Answers, code: int) -> None:
    with scripted(answers) as url:
        done = bench(url, *OPTIONS, "--json")
    assert done.exit_code == code
    if code == 0:
        for row in json.loads(done.stdout)["measurements"]:
            assert row["refused"] > 0
            assert (row["requests"], row["elements_per_second"], row["p50_ms"]) == (0, 0.0, None)


def test_what_is_too_large_for_the_server_is_left_out() -> None:
    with scripted({**ALIVE, "/focal": (413, {"code": "body_too_large", "detail": "too much"})}) as url:
        done = bench(url, *OPTIONS, "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["measurements"] == []
    assert done.stderr.count("left out: too much") == len(FORMATS)


def test_nobody_there_is_3() -> None:
    with scripted({}) as url:
        pass
    done = bench(url, *OPTIONS)
    assert (done.exit_code, done.stdout) == (3, "")

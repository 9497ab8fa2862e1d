from __future__ import annotations

import asyncio
import logging

import pytest

from lossd.api.accounting import BURST, EXPECTED_OUTCOMES, RATE, RequestLine, RequestLog
from lossd.api.problems import KINDS

LINE = RequestLine("r1", "vision", "192.0.2.1", "bad_shape", 422, "bce", "npy", 12, 48)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def fields(record: logging.LogRecord) -> dict[str, object]:
    return dict(record.__dict__["fields"])


def test_a_line_has_what_is_known_of_the_request(caplog: pytest.LogCaptureFixture) -> None:
    RequestLog("failed").write(LINE)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert fields(record) == {
        "outcome": "bad_shape",
        "status": 422,
        "loss": "bce",
        "format": "npy",
        "elements": 12,
        "bytes": 48,
        "total_seconds": 0.0,
        "client": "192.0.2.1",
        "team": "vision",
        "request_id": "r1",
    }


@pytest.mark.parametrize("outcome", ["ok", "disconnected", *KINDS])
def test_which_outcomes_have_lines(outcome: str) -> None:
    assert RequestLog("all").wants(outcome)
    assert not RequestLog("none").wants(outcome)
    assert RequestLog("failed").wants(outcome) == (outcome not in EXPECTED_OUTCOMES)


def test_so_many_lines_a_second_and_then_how_many_were_left_out(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()

    async def fail() -> None:
        requests = RequestLog("failed", clock=clock)
        for _ in range(int(BURST) + 7):
            requests.write(LINE)
        assert len(caplog.records) == BURST
        await asyncio.sleep(1.5)
        assert fields(caplog.records[-1]) == {"left_out": 7}
        clock.now += 1.0
        for _ in range(100):
            requests.write(LINE)
        requests.close()
        requests.close()

    asyncio.run(fail())
    again = [fields(record) for record in caplog.records[int(BURST) + 1 :]]
    assert again == [fields(caplog.records[0])] * int(RATE) + [{"left_out": 100 - int(RATE)}]


def test_none_is_left_out_where_all_have_lines(caplog: pytest.LogCaptureFixture) -> None:
    requests = RequestLog("all", clock=Clock())
    with caplog.at_level(logging.INFO):
        for _ in range(200):
            requests.write(LINE._replace(outcome="ok"))
    assert [record.levelname for record in caplog.records] == ["INFO"] * 200

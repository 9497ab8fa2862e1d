from __future__ import annotations

import logging

import pytest

from lossd.api.accounting import EXPECTED_OUTCOMES, RequestLine, RequestLog
from lossd.api.problems import KINDS

LINE = RequestLine("r1", "vision", "192.0.2.1", "bad_shape", 422, "bce", "npy", 12, 48)


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


@pytest.mark.parametrize(
    ("line", "owner"),
    [
        (LINE, "team vision, refused"),
        (LINE._replace(outcome="internal_error", status=500), "team vision, failed"),
        (LINE._replace(outcome="unauthorized", status=401, team=""), "callers without a key"),
    ],
)
def test_lines_are_limited_by_their_owners(
    caplog: pytest.LogCaptureFixture, line: RequestLine, owner: str
) -> None:
    RequestLog("failed").write(line)
    RequestLog("all").write(line)
    limited, every = (record.__dict__["owner"] for record in caplog.records)
    assert limited == owner
    assert every == (None if line.team else owner)

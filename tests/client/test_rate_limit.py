"""What answers say of a team's rates."""

import pickle
from collections.abc import Mapping

import numpy as np
import pytest

import lossd_client
from client.conftest import Ask
from client.playback import SCALAR, Answer, Playback
from lossd_client import LossClient, LossResult, Rate, RateLimit

X, Y = np.zeros((4, 3)), np.zeros((4, 3))
POLICY = '"requests";q=50;w=1, "elements";q=1000000000;qu="elements";w=1'
HEADERS = {"RateLimit-Policy": POLICY, "RateLimit": '"requests";r=41;t=1, "elements";r=999918080;t=2'}
EXPECTED = RateLimit(
    {"requests": Rate(50, 41, 1.0, 1.0), "elements": Rate(1_000_000_000, 999_918_080, 2.0, 1.0)}
)


def test_a_result_has_them(ask: Ask, playback: Playback) -> None:
    playback.answer = Answer.of_json(SCALAR, **{name.replace("-", "_"): v for name, v in HEADERS.items()})
    result = ask(playback.url, "focal", X, Y)
    assert isinstance(result, LossResult)
    assert result.rate_limit == EXPECTED
    assert result.rate_limit.requests == Rate(limit=50, remaining=41, reset=1.0, window=1.0)
    assert result.rate_limit.elements is not None
    assert pickle.loads(pickle.dumps(result)).rate_limit == EXPECTED
    assert result.to_dict()["rate_limit"]["requests"] == {
        "limit": 50,
        "remaining": 41,
        "reset": 1,
        "window": 1,
    }


def test_a_result_of_an_array_has_them(ask: Ask, playback: Playback) -> None:
    answer = Answer.of_npy(np.zeros((4, 3)))
    playback.answer = Answer(answer.body, answer.media_type, headers={**answer.headers, **HEADERS})
    result = ask(playback.url, "bce", X, Y, reduction="none")
    assert isinstance(result, LossResult)
    assert result.rate_limit == EXPECTED


def test_without_rates_there_is_none(ask: Ask, playback: Playback) -> None:
    result = ask(playback.url, "bce", X, Y)
    assert isinstance(result, LossResult)
    assert result.rate_limit is None


@pytest.mark.parametrize(
    ("status", "kind"), [(429, lossd_client.Throttled), (422, lossd_client.InvalidRequest)]
)
def test_an_error_has_them(
    ask: Ask, playback: Playback, status: int, kind: type[lossd_client.StatusError]
) -> None:
    problem = Answer.of_problem(status, "rate_limited")
    playback.answer = Answer(problem.body, problem.media_type, status, {**HEADERS, "Retry-After": "26"})
    with pytest.raises(kind) as caught:
        ask(playback.url, "bce", X, Y)
    for error in (caught.value, pickle.loads(pickle.dumps(caught.value))):
        assert error.rate_limit == EXPECTED
        assert (error.retry_after, error.headers["retry-after"]) == (26.0, "26")
    assert lossd_client.StatusError(500).rate_limit is None


def test_of_several_answers_it_is_the_last_ones(playback: Playback) -> None:
    playback.answers = [Answer.of_json(SCALAR, RateLimit=f'"requests";r={left}') for left in (3, 2)]
    with LossClient(playback.url, request_bytes=2 * 3 * 8 * 2, concurrency=1, shrink_targets=False) as client:
        result = client.bce(X, Y)
    assert len(playback.arrivals) == 2
    assert result.rate_limit == RateLimit({"requests": Rate(None, 2, None, None)})


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"ratelimit": ""}, None),
        ({"ratelimit": "requests;r=1"}, None),  # a token, not a string
        ({"ratelimit": '"requests";t=1'}, None),  # without what is left
        ({"ratelimit": '"requests";r=many'}, None),
        ({"ratelimit": '"requests";r=1.5'}, None),
        ({"ratelimit": '"requests";r=-1'}, None),
        ({"ratelimit": "limit=100, remaining=50, reset=5"}, None),  # of an older draft
        ({"ratelimit": '"a b";r=0;pk=:sdfjLJUOUH==:;t=9'}, {"a b": Rate(None, 0, 9.0, None)}),
        (
            {"ratelimit": '"x" ; r=7 ; t=3 , "y";r=1'},
            {"x": Rate(None, 7, 3, None), "y": Rate(None, 1, None, None)},
        ),
        (
            {"ratelimit": '"x";r=7', "ratelimit-policy": '"x";q=9;qu="content-bytes;w=4";w=60'},
            {"x": Rate(9, 7, None, 60.0)},
        ),
        ({"ratelimit-policy": POLICY}, None),
    ],
    ids=str,
)
def test_headers(headers: Mapping[str, str], expected: Mapping[str, Rate] | None) -> None:
    assert RateLimit.of(headers) == (None if expected is None else RateLimit(expected))

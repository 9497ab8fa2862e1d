"""Headers of the caller's."""

import pickle
from typing import Any

import numpy as np
import pytest

from client.conftest import Ask
from client.playback import Playback
from lossd_client import AsyncLossClient, LossClient

X, Y = np.zeros((2, 3)), np.zeros((2, 3))


def test_every_request_bears_them(ask: Ask, playback: Playback) -> None:
    options = {"default_headers": {"X-Tenant": "a b", "Cookie": "s=1"}, "api_key": "k"}
    for method, args in (("bce", (X, Y)), ("info", ()), ("ready", ())):
        ask(playback.url, method, *args, options=options)
        assert playback.last.headers["x-tenant"] == "a b"
        assert playback.last.headers["cookie"] == "s=1"
        assert playback.last.headers["authorization"] == "Bearer k"


def test_options_add_to_them_and_none_takes_them_away(playback: Playback) -> None:
    with LossClient(playback.url, default_headers={"A": "1", "B": "2"}) as client:
        client.with_options(default_headers={"b": "3", "C": "4"}).bce(X, Y)
        got = playback.last.headers
        assert (got["a"], got["b"], got["c"]) == ("1", "3", "4")
        client.with_options(default_headers=None).bce(X, Y)
        assert not {"a", "b", "c"} & set(playback.last.headers)
        client.with_options(retry=None).bce(X, Y)
        assert playback.last.headers["a"] == "1"
        with pickle.loads(pickle.dumps(client)) as other:
            other.bce(X, Y)
        assert playback.last.headers["b"] == "2"


def test_the_user_agent_may_be_another(playback: Playback) -> None:
    with LossClient(playback.url, default_headers={"User-Agent": "mine/1"}) as client:
        client.bce(X, Y)
    assert playback.last.headers["user-agent"] == "mine/1"


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"authorization": "Bearer x"}, "may not have authorization: give the key as api_key"),
        ({"X-API-Key": "x"}, "give the key as api_key"),
        ({"Content-Type": "text/csv"}, "the client sets it by what it sends"),
        ({"content-LENGTH": "3"}, "the client sets it"),
        ({"Host": "x"}, "the client sets it"),
        ({"X-Request-Id": "x"}, "the client makes one for each request"),
        ({"X-Timeout-Ms": "5"}, r"give Timeout\(deadline=...\)"),
        ({"X Y": "1"}, "no name of a header"),
        ({"": "1"}, "no name of a header"),
        ({"X": "secret\r\nY: 2"}, "the value of X"),
        ({"X": ""}, "the value of X"),
        ({"X": " secret"}, "the value of X"),
        ({"X": "ä"}, "the value of X"),
        ({"X": "1", "x": "2"}, "twice"),
    ],
    ids=str,
)
def test_what_is_refused(headers: dict[str, str], message: str) -> None:
    for kind in (LossClient, AsyncLossClient):
        with pytest.raises(ValueError, match=message) as caught:
            kind(default_headers=headers)
        assert "secret" not in str(caught.value)
    with LossClient() as client, pytest.raises(ValueError, match=message):
        client.with_options(default_headers=headers)


@pytest.mark.parametrize("given", [3, [("X", "1")], {"X": 1}, {1: "X"}, {"X": None}], ids=str)
def test_arguments_of_another_type(given: Any) -> None:  # noqa: ANN401 - of any type
    with pytest.raises(TypeError, match=r"^default_headers"):
        LossClient(default_headers=given)

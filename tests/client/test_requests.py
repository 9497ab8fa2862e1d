"""What goes over the wire."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from client.conftest import Ask
from client.playback import Answer, Playback
from lossd_client import DEFAULT, LossClient
from lossd_client.transport import CHUNK

Options = dict[str, Any]
Query = list[tuple[str, str]]

LOGITS = np.linspace(-3, 3, 6, dtype=np.float32).reshape(2, 3)
TARGETS = np.array([[0, 1, 0], [1, 1, 0]], dtype=np.uint8)


def test_only_what_was_given_is_sent(ask: Ask, playback: Playback) -> None:
    ask(playback.url, "bce", LOGITS, TARGETS)
    arrival = playback.last
    assert (arrival.method, arrival.path) == ("POST", "/bce")
    assert arrival.query == [("tensors", "logits,targets")]
    assert arrival.headers["content-type"] == "application/x-npy"
    assert arrival.headers["accept"] == "application/json"
    assert arrival.headers["content-length"] == str(len(arrival.body))
    assert arrival.headers["user-agent"].startswith("lossd-client/")
    assert "transfer-encoding" not in arrival.headers
    assert "authorization" not in arrival.headers
    np.testing.assert_array_equal(arrival.tensors["logits"], LOGITS, strict=True)
    np.testing.assert_array_equal(arrival.tensors["targets"], TARGETS, strict=True)


def test_every_tensor_stands_where_the_query_names_it(ask: Ask, playback: Playback) -> None:
    weight, pos_weight = np.ones((2, 1)), [1.0, 2.0, 3.0]
    ask(playback.url, "focal", LOGITS, TARGETS, weight=weight, pos_weight=pos_weight)
    assert playback.last.path == "/focal"
    assert dict(playback.last.query)["tensors"] == "logits,targets,weight,pos_weight"
    np.testing.assert_array_equal(playback.last.tensors["weight"], weight, strict=True)
    np.testing.assert_array_equal(playback.last.tensors["pos_weight"], np.array(pos_weight), strict=True)


@pytest.mark.parametrize("array", [LOGITS.T, LOGITS.astype(">f8"), LOGITS[::2, ::2], np.zeros((0, 3))])
def test_arrays_arrive_as_they_were(ask: Ask, playback: Playback, array: NDArray[Any]) -> None:
    ask(playback.url, "bce", array, array > 0)
    arrived = playback.last.tensors["logits"]
    np.testing.assert_array_equal(arrived, array, strict=True)
    assert arrived.dtype.str == array.dtype.str


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"gamma": 2}, [("gamma", "2.0")]),
        ({"gamma": np.float32(0.5)}, [("gamma", "0.5")]),
        ({"gamma": 0.1}, [("gamma", "0.1")]),
        ({"gamma": DEFAULT, "alpha": DEFAULT}, []),
        ({"alpha": None}, [("alpha", "null")]),
        ({"alpha": [0.25, 0.5]}, [("alpha", "[0.25,0.5]")]),
        ({"alpha": np.array([0.25, 0.5])}, [("alpha", "[0.25,0.5]")]),
        ({"pos_weight": 3}, [("pos_weight", "3.0")]),
        ({"pos_weight": np.float64(3)}, [("pos_weight", "3.0")]),
        ({"reduction": "mean"}, []),
        ({"reduction": "sum"}, [("reduction", "sum")]),
    ],
)
def test_parameters_are_json_text_in_the_query(
    ask: Ask, playback: Playback, given: Options, sent: Query
) -> None:
    ask(playback.url, "focal", LOGITS, TARGETS, **given)
    assert playback.last.params == sent


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"reduction": "none"}, [("reduction", "none")]),
        ({"axis": 0}, [("axis", "0")]),
        ({"axis": np.int64(-1)}, [("axis", "-1")]),
        ({"axis": (0, 1), "reduction": "sum"}, [("reduction", "sum"), ("axis", "[0,1]")]),
    ],
)
def test_an_array_is_asked_for_as_npy(ask: Ask, playback: Playback, given: Options, sent: Query) -> None:
    playback.answer = Answer.of_npy(np.zeros(3))
    ask(playback.url, "bce", LOGITS, TARGETS, **given)
    assert playback.last.params == sent
    assert playback.last.headers["accept"] == "application/x-npy"


def test_a_body_of_many_chunks_arrives_whole(ask: Ask, playback: Playback) -> None:
    logits = np.random.default_rng(0).normal(size=CHUNK // 2 + 7)  # just over four chunks
    ask(playback.url, "bce", logits, np.asfortranarray(logits > 0))
    np.testing.assert_array_equal(playback.last.tensors["logits"], logits, strict=True)


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ({"gamma": float("nan")}, ValueError, "gamma must be finite"),
        ({"gamma": "two"}, ValueError, "could not convert"),
        ({"axis": 0.5}, TypeError, "integer"),
        ({"axis": [0.5]}, TypeError, "integer"),
        ({"weight": np.ones(3, dtype=np.int64)}, TypeError, "weight has dtype int64"),
    ],
)
def test_bad_arguments_are_not_sent(
    ask: Ask, playback: Playback, given: Options, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        ask(playback.url, "focal", LOGITS, TARGETS, **given)
    assert playback.arrivals == []


def test_the_key_is_a_bearer_token(ask: Ask, playback: Playback) -> None:
    ask(playback.url, "bce", LOGITS, TARGETS, options={"api_key": "k-1"})
    assert playback.last.headers["authorization"] == "Bearer k-1"


def test_the_environment_gives_what_the_arguments_do_not(
    ask: Ask, playback: Playback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOSSD_BASE_URL", f"{playback.url}/under/")
    monkeypatch.setenv("LOSSD_API_KEY", "k-env")
    ask(None, "bce", LOGITS, TARGETS)
    assert (playback.last.path, playback.last.headers["authorization"]) == ("/under/bce", "Bearer k-env")
    ask(playback.url, "bce", LOGITS, TARGETS, options={"api_key": "k-arg"})
    assert (playback.last.path, playback.last.headers["authorization"]) == ("/bce", "Bearer k-arg")


def test_a_client_uses_its_connection_again(playback: Playback) -> None:
    with LossClient(playback.url) as client:
        for _ in range(3):
            client.bce(LOGITS, TARGETS)
    assert len(playback.arrivals) == 3


@pytest.mark.parametrize(
    ("base_url", "options", "message"),
    [
        ("localhost:8000", {}, "must be like http"),
        ("ftp://localhost", {}, "must be like http"),
        ("http://", {}, "must be like http"),
        ("http://localhost/?a=b", {}, "must be like http"),
        ("http://[::1", {}, "Invalid IPv6"),
        ("http://localhost:99999", {}, "Port out of range"),
        (None, {"api_key": "k\r\nX: y"}, "header cannot carry"),
        (None, {"api_key": "schlüssel"}, "header cannot carry"),
        (None, {"timeout": 0.0}, "timeout must be"),
        (None, {"timeout": float("nan")}, "timeout must be"),
    ],
)
def test_a_client_that_could_not_work_is_not_made(
    ask: Ask, base_url: str | None, options: Options, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ask(base_url, "ready", options=options)


def test_the_key_does_not_show() -> None:
    with LossClient(api_key="secret") as client:
        assert repr(client) == "LossClient('http://127.0.0.1:8000')"

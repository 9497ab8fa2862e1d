"""What comes back."""

import json
import math
import pickle

import numpy as np
import pytest
from numpy.typing import NDArray

from client.conftest import Ask
from client.playback import FIGURES, SCALAR, Answer, Playback, npy
from lossd_client import BadAnswer, LossResult

X, Y = np.zeros((2, 3)), np.zeros((2, 3))


def test_a_scalar_with_its_figures(ask: Ask, playback: Playback) -> None:
    playback.answer = Answer.of_json(SCALAR, Server_Timing=FIGURES["Server-Timing"])
    result = ask(playback.url, "focal", X, Y)
    assert float(result) == result.loss == 0.7923818
    assert (result.sum, result.count, result.weight_sum, result.positives) == (2028.497, 2560, 2560.0, 251.0)
    assert (result.reduction, result.loss_name, result.shape) == ("mean", "focal", (32, 80))
    assert (result.kernel, result.device, result.version) == ("eager", "cpu", "0.1.0")
    assert result.params == SCALAR["params"]
    assert result.request_id == "r-1"
    assert result.timing == {"read": 0.25, "queue": 1.5, "compute": 3.0}


def test_an_array_with_its_figures(ask: Ask, playback: Playback) -> None:
    losses = np.array([[0.1, math.inf, 0.3], [math.nan, 0.5, 0.6]])
    playback.answer = Answer.of_npy(losses)
    result = ask(playback.url, "focal", X, Y, reduction="none", gamma=2.0, alpha=None)
    np.testing.assert_array_equal(result.loss, losses, strict=True)
    assert (result.sum, result.count, result.weight_sum, result.positives) == (2.5, 6, 6.0, 3.0)
    assert (result.reduction, result.loss_name, result.shape) == ("none", "focal", (2, 3))
    assert result.params == {"gamma": 2.0, "alpha": None}
    assert result.request_id == "r-2"
    assert result.timing["compute"] == 3.0


def test_an_arrays_params_are_the_losss_own(ask: Ask, playback: Playback) -> None:
    playback.answer = Answer.of_npy(np.zeros(3))
    shared = {"axis": 0, "pos_weight": 2.0, "normalizer": "positives"}
    result = ask(playback.url, "focal", probabilities=X, targets=Y, alpha=[0.1, 0.2], variant="exp", **shared)
    assert result.params == {"alpha": [0.1, 0.2], "variant": "exp"}
    assert result.shape == (2, 3)


def test_an_array_is_float64_whatever_was_sent(ask: Ask, playback: Playback) -> None:
    playback.answer = Answer.of_npy(np.ones(3, dtype=">f4"))
    assert ask(playback.url, "bce", X, Y, axis=0).loss.dtype == np.dtype(np.float64)


def test_every_axis_given_is_a_scalar_again(ask: Ask, playback: Playback) -> None:
    playback.answer = Answer.of_npy(np.array(0.25))
    assert float(ask(playback.url, "bce", X, Y, axis=(0, 1))) == 0.25


def test_an_array_may_come_as_json(ask: Ask, playback: Playback) -> None:
    playback.answer = Answer.of_json({**SCALAR, "loss": [1.0, "Infinity", "NaN"]})
    np.testing.assert_array_equal(
        ask(playback.url, "bce", X, Y, axis=0).loss, np.array([1.0, np.inf, np.nan]), strict=True
    )


@pytest.mark.parametrize(
    ("text", "value"), [("Infinity", math.inf), ("-Infinity", -math.inf), ("NaN", math.nan)]
)
def test_numbers_that_are_not_finite(ask: Ask, playback: Playback, text: str, value: float) -> None:
    playback.answer = Answer.of_json({**SCALAR, "loss": text, "sum": text})
    result = ask(playback.url, "bce", X, Y)
    np.testing.assert_array_equal([result.loss, result.sum], [value, value])
    plain = result.to_dict()
    assert plain["loss"] == plain["sum"] == text
    json.dumps(plain, allow_nan=False)


def test_floats_keep_their_bits(ask: Ask, playback: Playback) -> None:
    value = 0.1 + 0.2
    playback.answer = Answer.of_json({**SCALAR, "loss": value})
    assert float(ask(playback.url, "bce", X, Y)) == value


def result_of(loss: float | NDArray[np.float64]) -> LossResult:
    return LossResult(loss, 1.5, 2, 2.0, 1.0, "mean", {"gamma": 2.0}, "r", {"read": 1.0}, "focal", (2,))


def test_an_array_is_no_float() -> None:
    with pytest.raises(TypeError, match=r"array of shape \(1,\)"):
        float(result_of(np.ones(1)))


def test_the_repr_is_short_and_says_what_counts() -> None:
    assert repr(result_of(0.5)) == (
        "<LossResult focal 0.5: reduction=mean, sum=1.5, count=2, weight_sum=2.0, positives=1.0, gamma=2.0>"
    )
    assert "array(1000,)" in repr(result_of(np.ones(1000)))


def test_the_dict_holds_every_field() -> None:
    plain = result_of(np.ones((1, 2))).to_dict()
    assert plain["loss"] == [[1.0, 1.0]]
    assert plain["shape"] == [2]
    assert list(plain) == list(LossResult.__dataclass_fields__)


def test_results_pickle_and_do_not_change() -> None:
    result = result_of(0.5)
    assert pickle.loads(pickle.dumps(result)).to_dict() == result.to_dict()
    with pytest.raises(AttributeError):
        result.loss = 1.0  # type: ignore[misc] # what is tested


@pytest.mark.parametrize(
    "answer",
    [
        Answer(b"<html>hello</html>", "text/html"),
        Answer(b"", "application/json"),
        Answer(b"[1]", "application/json"),
        Answer(b'{"loss": 1.0}', "application/json"),
        Answer(b'{"loss": null}', "application/json"),
        Answer(b"\xff", "application/json"),
        Answer(b"\x93NUMPY", "application/x-npy", headers=FIGURES),
        Answer(npy(np.ones(2)), "application/x-npy"),
        Answer(npy(np.array(["a"])), "application/x-npy", headers=FIGURES),
        Answer(b"not gzip", headers={"Content-Encoding": "gzip"}),
    ],
    ids=lambda answer: f"{answer.media_type}-{answer.body[:8]!r}",
)
def test_a_success_that_cannot_be_read(ask: Ask, playback: Playback, answer: Answer) -> None:
    playback.answer = answer
    with pytest.raises(BadAnswer):
        ask(playback.url, "bce", X, Y)


def test_info(ask: Ask, playback: Playback) -> None:
    playback.answer = Answer.of_json({"version": "0.1.0", "workers": []})
    assert ask(playback.url, "info") == {"version": "0.1.0", "workers": []}
    assert (playback.last.method, playback.last.path) == ("GET", "/info")


@pytest.mark.parametrize("body", [b"[]", b"<html>"])
def test_info_that_is_none(ask: Ask, playback: Playback, body: bytes) -> None:
    playback.answer = Answer(body)
    with pytest.raises(BadAnswer):
        ask(playback.url, "info")


@pytest.mark.parametrize(("status", "ready"), [(200, True), (503, False)])
def test_ready(ask: Ask, playback: Playback, status: int, ready: bool) -> None:
    playback.answer = Answer(b"{}", status=status)
    assert ask(playback.url, "ready") is ready
    assert (playback.last.method, playback.last.path) == ("GET", "/readyz")

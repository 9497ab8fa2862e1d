"""What comes back."""

import hashlib
import json
import math
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from client.conftest import Ask
from client.playback import FIGURES, OPTIONS, PARAMS, SCALAR, Answer, Playback, npy
from lossd_client import BadAnswer, LossResult

X, Y = np.zeros((2, 3)), np.zeros((2, 3))


def test_a_scalar_with_its_figures(ask: Ask, playback: Playback) -> None:
    playback.answer = Answer.of_json(SCALAR, Server_Timing=FIGURES["Server-Timing"])
    result = ask(playback.url, "focal", X, Y)
    assert float(result) == result.loss == 0.7923818
    assert (result.sum, result.count, result.weight_sum, result.positives) == (2028.497, 2560, 2560.0, 251.0)
    assert (result.reduction, result.loss_name, result.shape) == ("mean", "focal", (32, 80))
    assert (result.kernel, result.device, result.version) == ("native", "cpu", "0.1.0")
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


DEFAULTS = OPTIONS


def _with_headers(**headers: str) -> Answer:
    answer = Answer.of_npy(np.zeros(3))
    return replace(
        answer, headers={**answer.headers, **{f"Lossd-{name}": each for name, each in headers.items()}}
    )


def test_an_array_says_what_it_is_of(ask: Ask, playback: Playback) -> None:
    params = {"reduction": "none", **PARAMS, **DEFAULTS, "alpha": {"length": 17, "sha256": "0"}}
    playback.answer = _with_headers(
        Params=json.dumps(params), Kernel="native", Version="9", Notes='["a \\u2265 b", "c"]'
    )
    alpha = np.linspace(0, 1, 17)
    logits, targets = np.zeros((2, 17)), np.zeros((2, 17))
    result = ask(playback.url, "focal", logits, targets, reduction="none", alpha=alpha, class_axis=1)
    assert result.params == {"gamma": 1.5, "alpha": alpha.tolist(), "variant": "sigmoid"}
    assert result.options == {**DEFAULTS, "class_axis": 1}
    assert (result.kernel, result.version, result.notes) == ("native", "9", ("a \u2265 b", "c"))


def test_options_have_their_defaults_whatever_the_server_says(ask: Ask, playback: Playback) -> None:
    old = {name: value for name, value in SCALAR.items() if name not in ("options", "notes")}
    for playback.answer in (Answer.of_json(old), Answer.of_json(SCALAR), Answer.of_npy(np.array(1.0))):
        result = ask(playback.url, "focal", X, Y, normalizer="weight", ignore_index=float("nan"))
        assert result.options == {**DEFAULTS, "normalizer": "weight", "ignore_index": "nan"}
        assert result.notes == ()


def test_what_was_given_counts_not_the_form_it_was_sent_in(ask: Ask, playback: Playback) -> None:
    playback.answer = Answer.of_json({**SCALAR, "options": {**DEFAULTS, "targets_format": "index"}})
    one_hot = {"one_hot_as_ids": True}
    assert ask(playback.url, "bce", X, np.eye(3)[:2], options=one_hot).options["targets_format"] == "dense"
    assert playback.last.params == [("targets_format", "index"), ("class_axis", "-1")]


def test_a_pos_weight_is_told_apart_by_its_numbers(ask: Ask, playback: Playback) -> None:
    shown = {"dtype": "float64", "shape": [20]}
    playback.answer = Answer.of_json({**SCALAR, "options": {**DEFAULTS, "pos_weight": shown}})
    few, many = np.array([[2], [3]], dtype=np.uint16), np.arange(20.0)[::-1]
    assert ask(playback.url, "bce", X, Y, pos_weight=few).options["pos_weight"] == [[2.0], [3.0]]
    wide = np.zeros((1, 20))
    digest = hashlib.sha256(np.array(many, dtype="<f8").tobytes()).hexdigest()
    for given in (many, torch.from_numpy(many.copy())):
        found = ask(playback.url, "bce", wide, wide, pos_weight=given).options["pos_weight"]
        assert found == {**shown, "sha256": digest}


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


def test_an_array_is_no_number() -> None:
    for use in (float, round, lambda result: f"{result:.3f}"):
        with pytest.raises(TypeError, match=r"array of shape \(1,\) and no single number; read it as \.loss"):
            use(result_of(np.ones(1)))


def test_a_scalar_is_formatted_and_rounded_as_a_number() -> None:
    result = result_of(0.123456)
    assert (format(result, ".4f"), f"{result:>10.3f}", f"{result:e}") == (
        "0.1235",
        "     0.123",
        "1.234560e-01",
    )
    assert (round(result, 3), round(result)) == (0.123, 0)
    assert type(round(result)) is int
    assert f"{result}" == str(result)
    with pytest.raises(ValueError, match="Unknown format code 'd'"):
        format(result, "d")


def test_the_repr_is_short_and_says_what_counts() -> None:
    assert repr(result_of(0.5)) == (
        "<LossResult focal 0.5: reduction=mean, sum=1.5, count=2, weight_sum=2.0, positives=1.0, gamma=2.0>"
    )
    assert "array(1000,)" in repr(result_of(np.ones(1000)))


def test_the_dict_holds_every_field() -> None:
    plain = result_of(np.ones((1, 2))).to_dict()
    assert plain["loss"] == [[1.0, 1.0]]
    assert plain["shape"] == [2]
    assert [*plain, "report", "rate_limit"] == list(LossResult.__dataclass_fields__)  # there are none


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


def test_a_notebook_shows_a_result() -> None:
    for loss in (0.123456, np.ones(3)):
        page = result_of(loss)._repr_html_()
        assert "focal" in page
        assert "1.5" in page  # the sum

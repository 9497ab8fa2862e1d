"""What goes over the wire."""

import inspect
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from client.conftest import Ask
from client.playback import Answer, Playback
from lossd_client import DEFAULT, LossClient
from lossd_client._calls.parameters import LOSSES, REPORT, SHARED
from lossd_client._http.httpx_transport import CHUNK

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
    given = {
        "logits": LOGITS,
        "targets": TARGETS,
        "weight": np.ones((2, 1)),
        "mask": LOGITS > -2,
        "pos_weight": np.array([1.0, 2.0, 3.0], dtype=np.float32),
    }
    for inputs in ("logits", "probabilities"):
        for method in ("bce", "focal"):
            tensors = {inputs: LOGITS, **{name: array for name, array in given.items() if name != "logits"}}
            ask(playback.url, method, **tensors)
            assert playback.last.path == f"/{method}"
            assert list(playback.last.tensors) == [inputs, "targets", "weight", "mask", "pos_weight"]
            assert playback.last.params == []
            for name, array in tensors.items():
                np.testing.assert_array_equal(playback.last.tensors[name], array, strict=True)


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((), {}, "needs logits or probabilities"),
        ((), {"targets": TARGETS}, "needs logits or probabilities"),
        ((LOGITS,), {}, "needs targets"),
        ((), {"probabilities": LOGITS}, "needs targets"),
        ((LOGITS, TARGETS), {"probabilities": LOGITS}, "logits or probabilities, not both"),
        (
            (TARGETS,),
            {"probabilities": LOGITS},
            r"targets are given by name: \w+\(probabilities=..., targets=",
        ),
    ],
)
@pytest.mark.parametrize("method", ["bce", "focal"])
def test_one_of_logits_and_probabilities_goes_with_targets(
    ask: Ask, playback: Playback, method: str, args: tuple[object, ...], kwargs: Options, message: str
) -> None:
    with pytest.raises(TypeError, match=rf"^{method}\(\) .*{message}"):
        ask(playback.url, method, *args, **kwargs)
    assert playback.arrivals == []


@pytest.mark.parametrize(
    "targets",
    [[2, 0], [], np.array([2, 0], dtype=np.uint8), np.array([2, 0], np.uint16), np.array([2.0, 0.0])],
)
def test_class_ids_go_as_they_are(ask: Ask, playback: Playback, targets: list[int] | NDArray[Any]) -> None:
    ask(playback.url, "bce", LOGITS[: len(targets)], targets, targets_format="index")
    assert playback.last.params == [("targets_format", "index")]
    expected = np.asarray(targets, dtype=np.int64 if isinstance(targets, list) else None)
    np.testing.assert_array_equal(playback.last.tensors["targets"], expected, strict=True)


def test_class_ids_are_no_bools(ask: Ask, playback: Playback) -> None:
    with pytest.raises(TypeError, match=r"targets has dtype bool; allowed are uint8, uint16"):
        ask(playback.url, "bce", LOGITS, [True, False], targets_format="index")
    assert playback.arrivals == []


@pytest.mark.parametrize(
    "more", [{"ignore_index": "nan"}, {"ignore_index": float("nan")}, {"allow_nan": True}]
)
@pytest.mark.parametrize("form", ["dense", "index"])
def test_none_in_lists_of_targets_is_nan(ask: Ask, playback: Playback, more: Options, form: str) -> None:
    targets = [[1, None, 0], [None, 1, 0]] if form == "dense" else [2, None]
    ask(playback.url, "bce", LOGITS, targets, targets_format=form, **more)
    expected = np.array(targets, dtype=np.float64)
    np.testing.assert_array_equal(playback.last.tensors["targets"], expected, strict=True)


SWAPPED = r"swapped\? the order is bce\(logits, targets\)"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((LOGITS > 0, LOGITS), f"logits has dtype bool; .*{SWAPPED}; of predictions rounded to 0 and 1"),
        ((TARGETS, LOGITS), f"logits has dtype uint8; .*{SWAPPED}; of predictions rounded to 0 and 1"),
        (
            (np.array([2, 0]), LOGITS),
            rf"logits has dtype int64; .*{SWAPPED}; if these are logits, convert them",
        ),
        (
            (np.array([7, -3]), np.array([1, 0])),
            r"float64; if these are logits, .*array\.astype\(np\.float64\)",
        ),
    ],
)
def test_inputs_that_seem_to_be_the_targets(
    ask: Ask, playback: Playback, args: tuple[object, ...], message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        ask(playback.url, "bce", *args)
    with pytest.raises(TypeError, match=r"focal\(probabilities=..., targets=...\)"):
        ask(playback.url, "focal", probabilities=LOGITS > 0, targets=LOGITS)
    assert playback.arrivals == []


def test_rounding_leaves_targets_alone_that_are_compared(ask: Ask, playback: Playback) -> None:
    wide = LOGITS.astype(np.float64)
    narrow: Options = {"narrow_floats": True}
    ids = np.array([2.0**24 + 1, 0.0])
    ask(playback.url, "bce", wide, ids, targets_format="index", ignore_index=2**24 + 1, options=narrow)
    np.testing.assert_array_equal(playback.last.tensors["targets"], ids, strict=True)
    assert playback.last.tensors["logits"].dtype == np.float32
    ask(playback.url, "bce", wide, np.full((2, 3), 0.1), ignore_index=0.1, options=narrow)
    assert playback.last.tensors["targets"].dtype == np.float64


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
        ({"alpha": (0.25, np.float32(0.5))}, [("alpha", "[0.25,0.5]")]),
        ({"variant": "quality"}, [("variant", "quality")]),
        ({"variant": DEFAULT}, []),
        ({"normalizer": "positives"}, [("normalizer", "positives")]),
        ({"normalizer": 64}, [("normalizer", "64.0")]),
        ({"class_axis": 1}, [("class_axis", "1")]),
        ({"class_axis": np.int8(0)}, [("class_axis", "0")]),
        ({"label_smoothing": 0.1}, [("label_smoothing", "0.1")]),
        ({"ignore_index": 255}, [("ignore_index", "255.0")]),
        ({"ignore_index": 0}, [("ignore_index", "0.0")]),
        ({"ignore_index": np.int64(-1)}, [("ignore_index", "-1.0")]),
        ({"ignore_index": "nan"}, [("ignore_index", "nan")]),
        ({"ignore_index": float("nan")}, [("ignore_index", "nan")]),
        ({"background_index": np.uint8(80)}, [("background_index", "80")]),
        ({"pos_weight": Decimal("2.5")}, [("pos_weight", "2.5")]),
        ({"alpha": [Decimal("0.1"), 1]}, [("alpha", "[0.1,1.0]")]),
        ({"allow_nan": True}, [("allow_nan", "true")]),
        ({"allow_nan": np.True_}, [("allow_nan", "true")]),
    ],
)
def test_parameters_are_json_text_in_the_query(
    ask: Ask, playback: Playback, given: Options, sent: Query
) -> None:
    ask(playback.url, "focal", LOGITS, TARGETS, **given)
    assert playback.last.params == sent


@pytest.mark.parametrize("method", LOSSES)
def test_a_default_is_not_sent(ask: Ask, playback: Playback, method: str) -> None:
    loss, signature = LOSSES[method], inspect.signature(getattr(LossClient, method)).parameters
    shown = {name: signature[name].default for name in loss.parameters}
    assert {name: shown[name] for name in loss.shared} == {name: SHARED[name] for name in loss.shared}
    assert all(shown[name] in (DEFAULT, parameter.default) for name, parameter in loss.own.items())
    tensors = (*loss.inputs, "targets", "weight", "mask")
    assert {signature[name].default for name in tensors} == {None}
    assert list(signature)[:3] == ["self", loss.inputs[0], "targets"]
    assert set(signature) == {"self", *tensors, *loss.parameters}
    ask(playback.url, method, LOGITS, TARGETS, **shown)
    assert playback.last.params == []


def test_the_defaults_of_a_report_are_shown() -> None:
    of_reports = inspect.signature(LossClient.report).parameters
    assert {name: of_reports[name].default for name in REPORT} == REPORT
    tensors = ("logits", "probabilities", "targets", "weight", "mask", "groups", "ids", "baseline")
    assert {of_reports[name].default for name in tensors} == {None}


@pytest.mark.parametrize("method", ["bce", "focal"])
def test_every_shared_parameter_at_once(ask: Ask, playback: Playback, method: str) -> None:
    given: Options = {
        "reduction": "mean",
        "axis": 0,
        "normalizer": "weight",
        "class_axis": 1,
        "targets_format": "index",
        "background_index": 3,
        "label_smoothing": 0.25,
        "ignore_index": -1,
        "allow_nan": True,
    }
    playback.answer = Answer.of_npy(np.zeros(3))
    ask(playback.url, method, LOGITS, [2, -1], **given)
    assert dict(playback.last.params) == {
        "axis": "0",
        "normalizer": "weight",
        "class_axis": "1",
        "targets_format": "index",
        "background_index": "3",
        "label_smoothing": "0.25",
        "ignore_index": "-1.0",
        "allow_nan": "true",
    }
    assert {*given, "pos_weight"} == set(SHARED)


@pytest.mark.parametrize(
    ("given", "sent", "accept"),
    [
        ({"reduction": "none"}, [("reduction", "none")], "application/x-npy"),
        ({"axis": 0}, [("axis", "0")], "application/json"),
        ({"axis": -2, "reduction": "sum"}, [("reduction", "sum"), ("axis", "-2")], "application/json"),
        ({"axis": np.int64(-1)}, [("axis", "-1")], "application/x-npy"),
        ({"axis": (0, 1), "reduction": "sum"}, [("reduction", "sum"), ("axis", "[0,1]")], "application/json"),
    ],
)
def test_losses_of_rows_are_asked_for_as_npy(
    ask: Ask, playback: Playback, given: Options, sent: Query, accept: str
) -> None:
    playback.answer = Answer.of_npy(np.zeros(3))
    ask(playback.url, "bce", LOGITS, TARGETS, **given)
    assert playback.last.params == sent
    assert playback.last.headers["accept"] == accept


@pytest.mark.parametrize(
    ("alpha", "sent"),
    [
        (np.array([0.25, 0.5]), "[0.25,0.5]"),
        (np.array([0, 1]), "[0.0,1.0]"),
        (np.array(0.5), "0.5"),
        (np.float32(0.5), "0.5"),
        (torch.tensor([0.25, 0.5], requires_grad=True), "[0.25,0.5]"),
        (torch.tensor([0.25, 0.5], dtype=torch.bfloat16), "[0.25,0.5]"),
        (torch.tensor(0.5), "0.5"),
    ],
)
def test_alpha_may_be_an_array(ask: Ask, playback: Playback, alpha: Any, sent: str) -> None:  # noqa: ANN401
    ask(playback.url, "focal", LOGITS, TARGETS, alpha=alpha)
    assert playback.last.params == [("alpha", sent)]


def test_a_body_of_many_chunks_arrives_whole(ask: Ask, playback: Playback) -> None:
    logits = np.random.default_rng(0).normal(size=CHUNK // 2 + 7)  # just over four chunks
    ask(playback.url, "bce", logits, np.asfortranarray(logits > 0))
    np.testing.assert_array_equal(playback.last.tensors["logits"], logits, strict=True)


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ({"gamma": float("nan")}, ValueError, "gamma must be finite"),
        ({"gamma": "two"}, ValueError, "gamma: could not convert"),
        ({"gamma": None}, TypeError, "gamma: "),
        ({"axis": 0.5}, TypeError, "axis: .* integer"),
        ({"axis": [0.5]}, TypeError, "integer"),
        ({"class_axis": 0.5}, TypeError, "class_axis: .* integer"),
        ({"class_axis": None}, TypeError, "class_axis: .* integer"),
        ({"normalizer": float("inf")}, ValueError, "normalizer must be finite"),
        ({"normalizer": "4"}, ValueError, "normalizer: must be 'count', .* or a number, and is '4'"),
        (
            {"normalizer": "sum"},
            ValueError,
            "normalizer: must be 'count', 'weight' or 'positives', or a number",
        ),
        ({"label_smoothing": float("nan")}, ValueError, "label_smoothing must be finite"),
        ({"ignore_index": "none"}, ValueError, "ignore_index: must be a number, 'nan' or None"),
        ({"ignore_index": float("inf")}, ValueError, "ignore_index must be finite"),
        ({"background_index": 0.5}, TypeError, "background_index: .* integer"),
        ({"background_index": True}, TypeError, "background_index must not be True"),
        ({"allow_nan": "false"}, TypeError, "allow_nan: must be True or False"),
        ({"alpha": [0.5, "x"]}, ValueError, "alpha: could not convert"),
        ({"alpha": [[0.5, 0.5]]}, ValueError, "alpha: must be a number, .* lists in its list"),
        ({"alpha": np.ones((2, 2))}, ValueError, r"alpha: must be a number, .* the shape \[2, 2\]$"),
        ({"alpha": np.array([True])}, TypeError, "alpha: the array has dtype bool"),
        ({"normalizer": True}, TypeError, "normalizer must not be True"),
        ({"axis": True}, TypeError, "axis must not be True"),
        ({"axis": [True]}, TypeError, "axis: must be integers"),
        ({"class_axis": False}, TypeError, "class_axis must not be False"),
        ({"pos_weight": True}, TypeError, "pos_weight must not be True"),
        ({"gamma": np.True_}, TypeError, "gamma must not be True"),
        ({"mask": np.ones(3)}, TypeError, "mask has dtype float64"),
        ({"weight": np.ones(3, dtype=np.bool_)}, TypeError, "weight has dtype bool"),
        ({"pos_weight": np.ones(3, dtype=np.bool_)}, TypeError, "pos_weight has dtype bool"),
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


@pytest.mark.parametrize("key", ["k-1\n", " k-1\r\n", "\tk-1 "])
def test_a_key_is_read_without_the_line_end_that_was_copied_along(
    ask: Ask, playback: Playback, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    ask(playback.url, "bce", LOGITS, TARGETS, options={"api_key": key})
    assert playback.last.headers["authorization"] == "Bearer k-1"
    monkeypatch.setenv("LOSSD_API_KEY", key)
    monkeypatch.setenv("LOSSD_BASE_URL", f"{playback.url}\n")
    ask(None, "bce", LOGITS, TARGETS, options={"api_key": " \n"})
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
        (None, {"api_key": "k\r\nX: y"}, "characters that no key has"),
        (None, {"api_key": "k y"}, "characters that no key has"),
        (None, {"api_key": "schlüssel"}, "characters that no key has"),
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


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_no_proxy_stands_before_this_machine(
    playback: Playback, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with LossClient(playback.url.replace("127.0.0.1", host)) as client:
        assert client.ready()

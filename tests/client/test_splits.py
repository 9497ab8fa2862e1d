"""Large inputs go in several requests, and come back as one answer: that of a single request."""

import math
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from client.conftest import Ask
from client.playback import Answer, Playback
from lossd_client import InvalidRequest, LossClient, Progress, Throttled, Timeout
from lossd_client.testing import FakeTransport

Options = dict[str, Any]

N, C = 13, 5
RNG = np.random.default_rng(7)
X: NDArray[np.float64] = RNG.normal(scale=3, size=(N, C))
Y: NDArray[np.float64] = RNG.random((N, C))
IDS = RNG.integers(0, C, N)
WEIGHT: NDArray[np.float64] = RNG.random((N, C))
MASK: NDArray[np.bool_] = RNG.random((N, C)) > 0.3
UNKNOWN = np.where(MASK, Y > 0.5, np.nan)
BY_ELEMENT: NDArray[np.float64] = RNG.random((N, C)) * 3
GAPS = np.arange(N)[:, None] % 6 < 2  # whole requests have nothing in them
CUBE: NDArray[np.float64] = RNG.normal(size=(N, 2, 3))
STEP: Options = {"request_bytes": 3 * C * 8 * 2}  # three rows of logits and targets


@pytest.fixture(scope="module")
def client(base_url: str) -> Iterator[LossClient]:
    with LossClient(base_url) as client:
        yield client


@pytest.fixture(scope="module")
def fake() -> Iterator[LossClient]:
    with LossClient(transport=FakeTransport) as client:
        yield client


CASES: list[tuple[str, Options]] = [
    (loss, {"logits": X, "targets": Y, **more})
    for loss, more in (
        ("bce", {}),
        ("focal", {"gamma": 2.0, "alpha": None, "variant": "exp"}),
        ("focal", {"variant": "quality", "alpha": [0.1, 0.2, 0.3, 0.4, 0.5]}),
        ("bce", {"reduction": "sum"}),
        ("bce", {"reduction": "none"}),
        ("bce", {"reduction": "sum", "axis": 0}),
        ("bce", {"reduction": "sum", "axis": 1}),
        ("focal", {"reduction": "mean", "axis": -1}),
        ("focal", {"reduction": "mean", "axis": 0}),
        ("bce", {"axis": (0, 1), "normalizer": "weight", "weight": WEIGHT}),
        ("bce", {"axis": 0, "normalizer": 7.0}),
        ("bce", {"axis": 0, "normalizer": "weight", "weight": WEIGHT}),
        ("bce", {"axis": 0, "normalizer": "positives", "targets": Y / 9}),
        ("bce", {"axis": 0, "mask": MASK & ~GAPS}),
        ("bce", {"axis": -2, "targets": UNKNOWN, "ignore_index": "nan", "normalizer": "positives"}),
        ("bce", {"normalizer": 7}),
        ("bce", {"normalizer": "positives"}),
        ("bce", {"normalizer": "positives", "targets": np.zeros((N, C))}),
        ("bce", {"weight": WEIGHT, "normalizer": "weight"}),
        ("bce", {"weight": WEIGHT[0]}),
        ("bce", {"weight": WEIGHT[:, :1], "reduction": "none"}),
        ("bce", {"weight": WEIGHT[:1]}),
        ("bce", {"weight": np.array(2.0)}),
        ("bce", {"mask": MASK, "axis": 1, "normalizer": 3}),
        ("bce", {"mask": MASK[0], "reduction": "none"}),
        ("bce", {"mask": GAPS}),
        ("focal", {"mask": GAPS, "normalizer": "weight", "weight": WEIGHT}),
        ("bce", {"pos_weight": [1.0, 2.0, 3.0, 4.0, 5.0]}),
        ("bce", {"pos_weight": np.arange(1.0, N + 1), "class_axis": 0}),
        ("bce", {"pos_weight": 3, "label_smoothing": 0.1, "targets": Y > 0.5}),
        ("bce", {"pos_weight": BY_ELEMENT, "targets": Y > 0.5}),
        ("focal", {"pos_weight": BY_ELEMENT[:, :1], "targets": Y > 0.5, "reduction": "none"}),
        ("bce", {"pos_weight": BY_ELEMENT[:1], "targets": Y > 0.5, "axis": 1}),
        ("bce", {"pos_weight": BY_ELEMENT, "class_axis": 0}),
        ("bce", {"logits": CUBE, "targets": CUBE > 0, "pos_weight": np.array([[2], [5]], np.uint16)}),
        ("bce", {"logits": CUBE, "targets": CUBE > 0, "pos_weight": BY_ELEMENT[:, :2, None], "axis": 2}),
        ("bce", {"weight": np.arange(N * C, dtype=np.uint32).reshape(N, C), "normalizer": "weight"}),
        ("bce", {"mask": MASK.astype(np.int64)}),
        ("bce", {"targets": UNKNOWN, "ignore_index": "nan"}),
        ("focal", {"targets": UNKNOWN, "ignore_index": "nan", "axis": 1, "normalizer": 2, "alpha": None}),
        ("focal", {"targets": np.where(IDS == 1, C, IDS), "targets_format": "index", "background_index": C}),
        ("focal", {"targets": np.where(IDS == 1, -7.0, IDS), "targets_format": "index", "ignore_index": 2,
                   "background_index": -7, "reduction": "none"}),
        ("bce", {"targets": np.where(IDS == 1, np.nan, IDS), "targets_format": "index", "ignore_index": "nan",
                 "background_index": 0}),
        ("bce", {"targets": IDS.astype(np.uint64), "targets_format": "index"}),
        ("focal", {"targets": IDS, "targets_format": "index"}),
        ("focal", {"targets": IDS, "targets_format": "index", "ignore_index": 2, "reduction": "none"}),
        ("bce", {"targets": (Y > 0.5).astype(np.float32), "ignore_index": 0}),
        ("bce", {"logits": X[:, 0], "targets": Y[:, 0], "weight": WEIGHT[:, 0]}),
        ("bce", {"logits": X.astype(np.float16), "targets": Y > 0.5, "reduction": "none"}),
        ("bce", {"logits": CUBE, "targets": CUBE > 0, "axis": (0, 2), "reduction": "sum"}),
        ("bce", {"logits": CUBE, "targets": CUBE > 0, "axis": 1}),
        ("bce", {"logits": CUBE, "targets": IDS[:, None] * np.ones((1, 3), int) % 2, "class_axis": 1,
                 "targets_format": "index"}),
        ("bce", {"logits": np.asfortranarray(X), "targets": Y[::-1], "reduction": "none"}),
        ("bce", {"logits": np.where(MASK, X, np.inf), "targets": np.where(MASK, Y, 0)}),
        ("bce", {"logits": np.where(MASK, X, np.nan), "targets": Y, "allow_nan": True, "axis": 1}),
    )
]  # fmt: skip


SWAPPED = "all logits are 0 or 1 and the targets are not: are they swapped?"
HARD = (Y > 0.5).astype(np.float32)


@pytest.mark.parametrize("options", [{}, STEP])
@pytest.mark.parametrize("loss", ["bce", "focal"])
def test_labels_given_as_logits_are_noted(ask: Ask, base_url: str, loss: str, options: Options) -> None:
    for reduction in ("mean", "none"):
        result = ask(base_url, loss, HARD, Y, options=options, reduction=reduction)
        assert result.notes == (SWAPPED,)
    [bfloat16] = [(HARD.view(np.uint32) >> 16).astype(np.uint16).view("V2")]
    assert ask(base_url, loss, bfloat16.T, Y.T, options=options).notes == (SWAPPED,)
    assert ask(base_url, "score_batches", loss, [(HARD, Y), (X, Y)], options=options).notes == (SWAPPED,)


@pytest.mark.parametrize(
    ("logits", "targets"),
    [
        (HARD, HARD),
        (HARD * 0, Y),
        (HARD * 0 + 1, Y),
        (np.where(HARD == 1, 2.0, 0.0), Y),
        (np.append(np.tile(HARD, (30, 1)), [[0.5] * C], axis=0), np.tile(Y, (31, 1))[: 30 * N + 1]),
        (HARD[:3], Y[:3]),
        (Y, HARD),
    ],
)
def test_other_logits_are_not(
    client: LossClient, logits: NDArray[np.float64], targets: NDArray[np.float64]
) -> None:
    assert client.bce(logits, targets).notes == ()
    assert client.bce(probabilities=np.round(Y), targets=Y, allow_nan=True).notes == ()
    assert client.bce(HARD, IDS, targets_format="index").notes == ()


@pytest.mark.parametrize("options", [{}, {"request_bytes": 200}])
def test_one_id_for_inputs_of_one_dimension(ask: Ask, base_url: str, options: Options) -> None:
    expected = (math.log1p(math.exp(1.0)) + math.log1p(math.exp(-2.0))) / 2
    for targets in (1, np.array(1), [1][0]):
        result = ask(base_url, "bce", [1.0, 2.0], targets, targets_format="index", options=options)
        assert float(result) == pytest.approx(expected, rel=1e-14)
    batch = ([1.0, 2.0], 1)
    merged = ask(base_url, "score_batches", "bce", [batch, batch], targets_format="index", options=options)
    assert float(merged) == float(result)
    assert merged.count == 4


@pytest.mark.parametrize("server", ["client", "fake"])
@pytest.mark.parametrize(("loss", "given"), CASES)
def test_the_answer_has_the_bits_of_one_request(
    request: pytest.FixtureRequest, server: str, loss: str, given: Options
) -> None:
    client: LossClient = request.getfixturevalue(server)
    whole = getattr(client, loss)(**given)
    parts = getattr(client.with_options(**STEP), loss)(**given)
    for name in (
        "reduction",
        "params",
        "loss_name",
        "shape",
        "options",
        "count",
        "kernel",
        "version",
        "notes",
    ):
        assert getattr(parts, name) == getattr(whole, name)
    for name in (
        "sum",
        "weight_sum",
        "positives",
        "loss",
        "sum_terms",
        "weight_sum_terms",
        "positives_terms",
    ):
        ours, its = getattr(parts, name), getattr(whole, name)
        assert type(ours) is type(its)
        np.testing.assert_array_equal(ours, its, strict=True)
    for name in ("loss_terms", "divisor_terms"):
        ours, its = getattr(parts, name), getattr(whole, name)
        assert (ours is None) == (its is None)
        np.testing.assert_array_equal(ours, its)


SQUARE: NDArray[np.float64] = RNG.normal(size=(12, 12))


@pytest.mark.parametrize(
    ("given", "number"),
    [
        ({"logits": SQUARE, "weight": np.ones(12)}, 1),
        (
            {
                "logits": SQUARE,
                "weight": np.ones(12),
                "mask": np.ones(12, bool),
                "pos_weight": np.ones((12, 1)),
            },
            3,
        ),
        ({"logits": SQUARE, "weight": np.ones((12, 1)), "mask": np.ones((12, 12), bool)}, 0),
        ({"logits": RNG.normal(size=(12, 3)), "weight": np.ones(3)}, 0),  # each part has 3 rows
        ({"logits": RNG.normal(size=(12, 3)), "pos_weight": np.ones((12, 1))}, 0),
    ],
)
def test_notes_are_those_of_the_whole(client: LossClient, given: Options, number: int) -> None:
    targets = given["logits"] > 0
    size = 3 * given["logits"].shape[1] * 9
    for more in ({}, {"reduction": "none"}, {"axis": 1}):
        whole = client.bce(targets=targets, **given, **more)
        parts = client.with_options(request_bytes=size).bce(targets=targets, **given, **more)
        assert len(whole.notes) == number
        assert parts.notes == whole.notes


def test_ids_that_may_lie_along_another_axis_are_noted_once(client: LossClient) -> None:
    given: Options = {"logits": RNG.normal(size=(8, 3, 3)), "targets": np.zeros((8, 3), np.int64)}
    cases: list[tuple[Options, int]] = [({}, 1), ({"class_axis": 2}, 0), ({"class_axis": 1}, 0)]
    for more, number in cases:
        whole = client.bce(**given, targets_format="index", **more)
        parts = client.with_options(request_bytes=300).bce(**given, targets_format="index", **more)
        assert len(whole.notes) == number
        assert parts.notes == whole.notes


def test_probabilities_are_split_too(client: LossClient) -> None:
    given: Options = {"probabilities": Y, "targets": Y > 0.5}
    parts = client.with_options(**STEP).bce(**given)
    assert float(parts) == float(client.bce(**given))


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"weight": np.ones((3, C))}, "shape_mismatch"),  # would fit every request but the last
        ({"mask": np.ones(3, dtype=bool), "logits": X[:12, 0], "targets": Y[:12, 0]}, "shape_mismatch"),
        ({"pos_weight": np.ones((3, C))}, "shape_mismatch"),
        ({"pos_weight": -BY_ELEMENT}, "weight_out_of_range"),
        ({"mask": np.full((N, C), 2)}, "weight_out_of_range"),
        ({"targets": UNKNOWN}, "non_finite_input"),
        ({"targets": Y[:, :3]}, "shape_mismatch"),
        ({"targets": Y[:5]}, "shape_mismatch"),
        ({"mask": np.zeros((N, C), dtype=bool)}, "empty_mean"),
        ({"axis": 5}, "invalid_parameter"),
        ({"reduction": "none", "axis": 0}, "invalid_parameter"),
        ({"normalizer": -1.0}, "invalid_parameter"),
        ({"normalizer": -1.0, "axis": 0}, "invalid_parameter"),
        ({"mask": np.arange(C) != 2, "axis": 0}, "empty_mean"),
    ],
)
def test_what_one_request_is_refused_for_its_parts_are_too(
    client: LossClient, given: Options, code: str
) -> None:
    arguments: Options = {"logits": X, "targets": Y, **given}
    size = 3 * 8 * 2 if arguments["logits"].ndim == 1 else STEP["request_bytes"]
    for each in (client, client.with_options(request_bytes=size)):
        with pytest.raises(InvalidRequest) as caught:
            each.bce(**arguments)
        assert caught.value.code == code


def test_a_mean_over_nothing_has_the_calls_request_id(client: LossClient) -> None:
    with pytest.raises(InvalidRequest) as caught:
        client.with_options(**STEP).bce(X, Y, mask=np.zeros((N, C), dtype=bool))
    assert caught.value.code == "empty_mean"
    assert len(caught.value.request_id or "") == 32


def test_a_fault_is_named_by_its_place_in_the_whole(client: LossClient) -> None:
    bad = Y.copy()
    bad[10, 3] = 1.5
    said = []
    for each in (client, client.with_options(**STEP)):
        with pytest.raises(InvalidRequest) as caught:
            each.bce(X, bad)
        said.append((caught.value.code, caught.value.detail, caught.value.errors))
    assert said[0] == said[1]
    assert said[0][2][0].pointer == "/targets/10/3"


def test_an_empty_mean_of_a_row_is_named_by_its_place_in_the_whole(client: LossClient) -> None:
    mask = np.arange(N)[:, None] != 7
    said = []
    for each in (client, client.with_options(**STEP)):
        with pytest.raises(InvalidRequest) as caught:
            each.bce(X, Y, mask=mask, axis=1)
        said.append((caught.value.code, caught.value.errors))
    assert said[0] == said[1]


def test_progress_is_told_request_by_request(ask: Ask, base_url: str) -> None:
    told: list[Progress] = []
    ask(base_url, "bce", X, Y, mask=MASK[0], options={**STEP, "progress": told.append})
    assert [each.rows for each in told] == [3, 6, 9, 12, 13]
    assert {each.total_rows for each in told} == {N}
    assert [each.requests for each in told] == [1, 2, 3, 4, 5]
    assert told[-1].elements == N * MASK[0].sum()


def test_one_request_is_progress_too(ask: Ask, base_url: str) -> None:
    told: list[Progress] = []
    ask(base_url, "bce", X, Y, options={"progress": told.append})
    assert told == [Progress(N, N, N * C, 1)]


def _scalar(loss: float = 1.0) -> Answer:
    return Answer.of_json({"loss": loss, "sum": loss, "count": 1, "weight_sum": 1.0, "positives": 0.0})


def test_several_are_in_flight_at_a_time_and_no_more(ask: Ask, playback: Playback) -> None:
    playback.answer = _scalar()
    playback.hold.clear()
    seen = []

    def let_go() -> None:
        seen.append(len(playback.arrivals))
        playback.hold.set()

    timer = threading.Timer(1.0, let_go)
    timer.start()
    ask(playback.url, "bce", X, Y, options={**STEP, "concurrency": 3})
    timer.join()
    assert seen == [3]
    assert len(playback.arrivals) == math.ceil(N / 3)


def test_the_parts_ids_tell_what_they_belong_to(ask: Ask, playback: Playback) -> None:
    playback.answer = _scalar()
    result = ask(playback.url, "bce", X, Y, options=STEP)
    ids = sorted(arrival.headers["x-request-id"] for arrival in playback.arrivals)
    assert ids == [f"{result.request_id}-{number}" for number in range(1, 6)]


def test_the_deadline_is_that_of_all_parts(ask: Ask, playback: Playback) -> None:
    playback.answer = _scalar()
    options = {**STEP, "concurrency": 1, "timeout": Timeout(deadline=60)}
    ask(playback.url, "bce", X, Y, options=options)
    left = [int(arrival.headers["x-timeout-ms"]) for arrival in playback.arrivals]
    assert left == sorted(left, reverse=True)
    assert len(set(left)) > 1


def test_a_part_that_fails_ends_the_call_and_leaves_no_thread(ask: Ask, playback: Playback) -> None:
    playback.answer = _scalar()
    playback.answers = [_scalar(), Answer.of_problem(429, "rate_limited")]
    with pytest.raises(Throttled):
        ask(playback.url, "bce", np.tile(X, (50, 1)), np.tile(Y, (50, 1)), options=STEP)
    assert len(playback.arrivals) < 15
    assert _no_thread()


def _no_thread() -> bool:
    return not [thread for thread in threading.enumerate() if thread.name.startswith("lossd")]


def test_a_source_that_breaks_does_not_wait_for_what_is_in_flight(playback: Playback) -> None:
    playback.hold.clear()

    def breaking() -> Iterator[Any]:
        yield X, Y
        yield X, Y
        while len(playback.arrivals) < 2:
            time.sleep(0.001)
        raise KeyError("the disk is full")

    with LossClient(playback.url) as client:
        began = time.monotonic()
        with pytest.raises(KeyError, match="the disk is full"):
            client.score_batches("bce", breaking())
        assert time.monotonic() - began < 8  # the answers are held for 10 s
        assert _no_thread()
        playback.hold.set()
        assert client.ready()  # the client is as it was


CALLER = """
import sys
import numpy as np
from lossd_client import LossClient
x = np.zeros((100, 10))
LossClient(sys.argv[1], request_bytes=2000).bce(x, x)
"""


def test_ctrl_c_ends_a_split_call_and_the_process(playback: Playback) -> None:
    playback.hold.clear()
    with subprocess.Popen([sys.executable, "-c", CALLER, playback.url], stderr=subprocess.PIPE) as caller:
        try:
            while len(playback.arrivals) < 4:
                assert caller.poll() is None
                time.sleep(0.01)
            caller.send_signal(signal.SIGINT)
            _, said = caller.communicate(timeout=8)  # the answers are held for 10 s
        finally:
            caller.kill()
    assert b"KeyboardInterrupt" in said
    assert caller.returncode != 0


def test_what_is_not_sliced_goes_along_whole(ask: Ask, playback: Playback) -> None:
    playback.answer = _scalar()
    ask(playback.url, "bce", X, Y, weight=WEIGHT[:1], mask=MASK, pos_weight=[1.0] * C, options=STEP)
    arrivals = sorted(playback.arrivals, key=lambda each: int(each.headers["x-request-id"].split("-")[1]))
    assert len(arrivals) > 3
    for name, whole in {"logits": X, "targets": Y, "mask": MASK}.items():
        joined = np.concatenate([arrival.tensors[name] for arrival in arrivals])
        np.testing.assert_array_equal(joined, whole, strict=True)
    for arrival in arrivals:
        np.testing.assert_array_equal(arrival.tensors["weight"], WEIGHT[:1], strict=True)
        assert arrival.tensors["pos_weight"].shape == (C,)

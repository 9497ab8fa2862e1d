"""Every loss of the catalog by the client's own ways: split inputs, batches, streams, reports, merges."""

import dataclasses
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from client.conftest import Ask
from client.losses import PARAMS, RNG, ROWS, Tensors, tensors_of
from client.playback import Playback
from lossd.core import catalog
from lossd.core import parameter_checks as checks
from lossd_client import InvalidRequest, LossClient, LossResult
from lossd_client._calls.parameters import LOSSES
from lossd_client.report import Report
from lossd_client.testing import FakeTransport
from scripts.client_losses import stale, written


def rows_of(tensors: Tensors, start: int, end: int) -> Tensors:
    return {name: array[start:end] for name, array in tensors.items()}


def batches_of(tensors: Tensors) -> Iterator[Tensors]:
    for start, end in ((0, 7), (7, 8), (8, ROWS)):
        yield rows_of(tensors, start, end)


def same(one: LossResult, other: LossResult) -> None:
    np.testing.assert_array_equal(one.loss, other.loss)
    for name in ("sum", "count", "weight_sum", "positives", "params", "options", "notes", "shape"):
        assert getattr(one, name) == getattr(other, name), name


@pytest.fixture(scope="module")
def client(base_url: str) -> Iterator[LossClient]:
    with LossClient(base_url) as client:
        yield client


def test_the_clients_have_what_the_catalog_says() -> None:
    assert stale() == {}, "make reference"


def test_a_loss_more_is_written_for_every_client(monkeypatch: pytest.MonkeyPatch) -> None:
    delta = catalog.Parameter(
        "delta", 1.0, {"type": "number", "minimum": 0, "default": 1}, "Where squares end.", checks.axis
    )
    added = catalog.Loss("added", "Huber's loss", "`d^2 / 2` up to delta.", (delta,), function="a:huber")
    huber = dataclasses.replace(added, name="huber", nanoseconds=5.0)
    for loss in (added, huber):
        monkeypatch.setitem(catalog._losses, loss.name, loss)
    texts = {path.name: text for path, text in written().items()}
    assert all("huber" in text.lower() for text in texts.values())
    assert '"added"' not in texts["catalog.py"]  # an operator's, which other servers do not have
    assert "delta: float | Default = DEFAULT" in texts["further_losses.py"]
    assert "readonly delta?: number;" in texts["losses.ts"]
    for name, text in texts.items():
        if name.endswith(".py"):
            compile(text, name, "exec")
    odd = catalog.Parameter("when", {}, {"type": "object"}, "What no client knows.", checks.axis)
    monkeypatch.setitem(catalog._losses, "huber", dataclasses.replace(huber, parameters=(odd,)))
    with pytest.raises(ValueError, match="the clients know no parameter like when"):
        written()


@pytest.mark.parametrize("name", LOSSES)
def test_each_loss_has_a_case(name: str) -> None:
    assert set(PARAMS[name]) <= set(LOSSES[name].parameters)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(
    "params", [{}, {"reduction": "sum"}, {"reduction": "none"}, {"normalizer": "weight"}]
)
def test_parts_have_the_bits_of_one_request(client: LossClient, name: str, params: dict[str, Any]) -> None:
    tensors, given = tensors_of(name), {**PARAMS[name], **params}
    whole = getattr(client, name)(**tensors, **given)
    assert whole.shape == tensors[LOSSES[name].inputs[0]].shape
    assert 0 < whole.count < tensors["mask"].size
    same(getattr(client.with_options(request_bytes=500), name)(**tensors, **given), whole)
    ask: Any = client.score_batches
    same(ask(name, batches_of(tensors), **given), whole)
    ask = client.score_stream
    streamed = ask(name, batches_of(tensors), **given)
    np.testing.assert_array_equal(streamed.loss, whole.loss)
    assert (streamed.sum, streamed.count, streamed.shape) == (whole.sum, whole.count, whole.shape)


@pytest.mark.filterwarnings("ignore:the mean divides by the number of losses")
@pytest.mark.parametrize("name", LOSSES)
def test_a_report_of_parts_is_that_of_one_request(client: LossClient, name: str) -> None:
    tensors = tensors_of(name)
    about = {"ids": np.arange(ROWS), "groups": np.arange(ROWS) % 3, **PARAMS[name]}
    ask: Any = client.report
    in_parts: Any = client.with_options(request_bytes=900).report
    whole, parts = (report(name, **tensors, **about).to_dict() for report in (ask, in_parts))
    assert len(parts["run"]["request_ids"]) > 1
    del whole["run"], parts["run"]
    assert parts == whole
    assert Report(whole).loss_name == name
    assert not set(LOSSES[name].without) & set(whole)


@pytest.mark.parametrize("name", LOSSES)
def test_inputs_go_first_without_a_name(ask: Ask, base_url: str, name: str) -> None:
    tensors = tensors_of(name)
    inputs = tensors.pop(LOSSES[name].inputs[0])
    one = ask(base_url, name, inputs, tensors["targets"])
    two = ask(base_url, "score_batches", name, [(inputs, tensors["targets"])])
    assert one.loss == two.loss
    assert one.loss_name == name


@pytest.mark.parametrize("axis", [0, -1, (0, 2), None])
@pytest.mark.parametrize("form", ["index", "dense"])
def test_axes_are_those_of_the_losses(
    client: LossClient, axis: int | tuple[int, ...] | None, form: str
) -> None:
    x, ids = RNG.normal(size=(12, 4, 3, 2)), RNG.integers(0, 4, (12, 3, 2))
    targets = ids if form == "index" else RNG.dirichlet(np.ones(4), (12, 3, 2)).transpose(0, 3, 1, 2)
    given: Any = {"class_axis": 1, "axis": axis, "weight": RNG.random((12, 1, 2))}
    whole = client.cross_entropy(x, targets, **given)
    each = client.cross_entropy(x, targets, class_axis=1, reduction="none")
    assert np.shape(each.loss) == (12, 3, 2)
    weighted = np.asarray(each.loss) * given["weight"]
    np.testing.assert_allclose(whole.loss, weighted.mean(axis=axis), rtol=1e-14)
    split = client.with_options(request_bytes=400).cross_entropy(x, targets, **given)
    np.testing.assert_array_equal(split.loss, whole.loss)
    assert split.options["targets_format"] == form


def test_torchs_weighted_mean_of_batches(client: LossClient) -> None:
    torch = pytest.importorskip("torch")
    x, ids = RNG.normal(size=(30, 4)), RNG.integers(0, 4, 30)
    weights = np.array([0.5, 1.0, 2.0, 4.0])
    batches = [(x[:7], ids[:7]), (x[7:], ids[7:])]
    found = client.score_batches("cross_entropy", batches, class_weight=weights, normalizer="weight")
    expected = torch.nn.functional.cross_entropy(
        *map(torch.from_numpy, (x, ids)), weight=torch.from_numpy(weights)
    )
    assert float(found) == pytest.approx(expected.item(), rel=1e-14)


@pytest.mark.parametrize("name", ["dice", "tversky"])
@pytest.mark.parametrize(("per", "number"), [("class", 5), ("all", 1)])
def test_losses_over_all_samples_go_in_one_request(
    client: LossClient, name: str, per: str, number: int
) -> None:
    tensors = tensors_of(name)
    del tensors["weight"], tensors["mask"]
    asked: list[int] = []
    small = client.with_options(request_bytes=100, progress=lambda at: asked.append(at.requests))
    result = getattr(small, name)(**tensors, per=per, reduction="none")
    assert np.shape(result.loss) == (number,)
    assert max(asked) == 1
    parts = [getattr(client, name)(**batch, per=per) for batch in batches_of(tensors)]
    with pytest.raises(ValueError, match=f"results cannot be joined by per='{per}'.*or by per='sample'"):
        LossResult.merge(parts)
    assert LossResult.merge(parts[:1]).loss == parts[0].loss
    for method in (client.score_batches, client.score_stream):
        ask: Any = method
        with pytest.raises(ValueError, match="in one request, or by per='sample'"):
            ask(name, batches_of(tensors), per=per)
    report: Any = client.report
    with pytest.raises(InvalidRequest):
        report(name, **tensors, per=per)


@pytest.mark.parametrize("is_dense", [False, True])
def test_parts_have_the_note_on_weights_of_classes(client: LossClient, is_dense: bool) -> None:
    ids = np.arange(ROWS) % 3
    given: Any = {"targets": np.eye(3)[ids] if is_dense else ids, "class_weight": [1.0, 2.0, 4.0]}
    whole = client.cross_entropy(np.zeros((ROWS, 3)), **given)
    same(client.with_options(request_bytes=200).cross_entropy(np.zeros((ROWS, 3)), **given), whole)
    assert len(whole.notes) == (not is_dense)


def test_boxes_of_whole_pixels(client: LossClient) -> None:
    boxes, targets = np.array([[0, 0, 10, 10], [2, 2, 4, 6]]), [[0, 0, 5, 10], [2, 2, 4, 6]]
    assert client.box(boxes, targets, reduction="none").loss.tolist() == [0.5, 0.0]  # type: ignore[union-attr]
    assert client.box(boxes.astype(np.uint16), np.array(targets)).loss == 0.25


@pytest.mark.parametrize(
    ("name", "tensors", "message"),
    [
        ("box", {"logits": np.zeros((1, 4)), "targets": np.zeros((1, 4))}, "no tensor 'logits'"),
        ("cross_entropy", {"probabilities": np.ones((1, 2)), "targets": [0]}, "no tensor 'probabilities'"),
        ("cross_entropy", {"logits": np.ones((1, 2)), "class_weight": [1, 2]}, "a parameter of the call"),
        ("squared", {"targets": [0.0]}, r"squared\(\) needs logits"),
        ("box", {"boxes": np.zeros((1, 4))}, r"box\(\) needs targets"),
    ],
)
def test_tensors_that_a_loss_does_not_have(
    playback: Playback, name: str, tensors: dict[str, Any], message: str
) -> None:
    ask: Any = LossClient(playback.url).score_batches
    with pytest.raises(TypeError, match=message):
        ask(name, [tensors])
    assert playback.arrivals == []


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("hinge", {"gamma": 2.0}, "hinge: no parameter 'gamma'"),
        ("asymmetric", {"gama_neg": 2.0}, "did you mean 'gamma_neg'"),
        ("dice", {"smooth": "much"}, "smooth: could not convert"),
        ("box", {"class_axis": 1}, "box: no parameter 'class_axis'"),
        ("cross_entropy", {"class_weight": [1.0, np.inf]}, "class_weight must be finite"),
        ("varifocal", {"alpha": None}, "alpha"),
        (
            *("cross_entropy", {"class_weight": np.ones((1, 3))}),
            r"class_weight: must be one number for each class, .* shape \[1, 3\]: give its \.ravel\(\)$",
        ),
        ("cross_entropy", {"class_weight": np.ones((2, 3))}, r"and has the shape \[2, 3\]$"),
        ("focal", {"alpha": np.ones((3, 1))}, r"alpha: must be a number, or one for each class, .*\.ravel"),
        ("softmax_focal", {"alpha": [[1.0], [2.0]]}, "alpha: must be one number for each class, and has li"),
        (
            *("cross_entropy", {"class_weight": np.array([True, False])}),
            r"dtype bool; .*; array\.astype\(np\.float64\) makes true 1, and false 0, if these numbers are",
        ),
    ],
)
def test_parameters_that_a_loss_does_not_have(
    playback: Playback, name: str, params: dict[str, Any], message: str
) -> None:
    ask: Any = LossClient(playback.url).score_batches
    with pytest.raises((TypeError, ValueError), match=message):
        ask(name, [(np.zeros((2, 4)), np.zeros((2, 4)))], **params)
    assert playback.arrivals == []


def test_advice_on_ids_is_of_what_the_loss_has(client: LossClient) -> None:
    x, ids = np.zeros((3, 2)), np.array([0, 1, 2])
    with pytest.raises(InvalidRequest) as caught:
        client.cross_entropy(x, ids)
    said = str(caught.value)
    assert (
        "here the ids go from 0 to 2: if 0 is unlabelled, subtract 1 from all and give ignore_index=-1"
        in said
    )
    assert "background" not in said


CUBE = RNG.normal(size=(4, 4, 4, 4))
SOFT = RNG.dirichlet(np.ones(4), (4, 4, 4))
IDS = RNG.integers(0, 4, (4, 4, 4))
NOTED: list[tuple[str, Tensors, dict[str, Any], list[str]]] = [
    ("cross_entropy", {"logits": CUBE, "targets": SOFT}, {}, ["torch's lie along axis 1"]),
    ("softmax_focal", {"logits": CUBE, "targets": IDS}, {}, ["if the classes lie along axis 1"]),
    ("cross_entropy", {"logits": CUBE[0, 0], "targets": IDS[0, 0], "weight": np.ones(4)}, {}, ["as class_"]),
    ("cross_entropy", {"logits": CUBE[0, 0], "targets": SOFT[0, 0] > 0.2}, {}, ["several labels a row"]),
    ("cross_entropy", {"logits": CUBE[0, 0], "targets": SOFT[0, 0] * 1.01}, {}, ["several labels a row"]),
    ("cross_entropy", {"logits": CUBE[0, 0], "targets": SOFT[0, 0] * 1.002}, {}, []),
    (
        *("cross_entropy", {"logits": CUBE[0, 0], "targets": SOFT[0, 0]}),
        *({"class_weight": [9, 9, 9, 9], "normalizer": "weight"}, []),
    ),
    ("bce", {"logits": CUBE[0, 0], "targets": SOFT[0, 0] > 0.2}, {}, []),
]


@pytest.mark.parametrize(("loss", "tensors", "params", "said"), NOTED)
def test_notes_are_of_the_whole_call(
    client: LossClient, loss: str, tensors: Tensors, params: dict[str, Any], said: list[str]
) -> None:
    whole = getattr(client, loss)(**tensors, **params)
    assert len(whole.notes) == len(said), whole.notes
    assert all(map(re.search, said, whole.notes)), whole.notes
    split = getattr(client.with_options(request_bytes=200), loss)(**tensors, **params)
    assert split.notes == whole.notes
    with LossClient(transport=FakeTransport) as fake:
        assert getattr(fake, loss)(**tensors, **params).notes == whole.notes


def test_a_stream_notes_targets_that_are_no_probabilities(client: LossClient) -> None:
    batches = [(CUBE[0, 0], SOFT[0, 0] > 0.2), (CUBE[0, 1], SOFT[0, 1] > 0.2)]
    [note] = client.score_stream("cross_entropy", batches).notes
    assert "several labels a row are for bce" in note
    with pytest.raises(InvalidRequest, match="class_axis=1") as caught:
        client.dice(CUBE, IDS[:, None].repeat(4, axis=1) > 1, per="class")
    assert caught.value.errors[0].pointer == "/class_axis"


def test_long_class_weights_go_as_a_tensor(playback: Playback, client: LossClient) -> None:
    x, ids = RNG.normal(size=(40, 3000)), RNG.integers(0, 3000, 40)
    weights = RNG.random(3000)
    mean = client.cross_entropy(x, ids, class_weight=weights, normalizer="weight")
    each = np.asarray(client.cross_entropy(x, ids, reduction="none").loss)
    np.testing.assert_allclose(mean.loss, np.average(each, weights=weights[ids]), rtol=1e-14)
    assert mean.params["class_weight"] == weights.tolist()
    split = client.with_options(request_bytes=1 << 18).cross_entropy(
        x, ids, class_weight=weights, normalizer="weight"
    )
    same(split, mean)
    report = client.report("cross_entropy", x, ids, class_weight=weights, normalizer="weight")
    assert report.mean == mean.loss
    with LossClient(transport=FakeTransport) as fake:
        found = fake.cross_entropy(x, ids, class_weight=weights, normalizer="weight")
        np.testing.assert_allclose(found.loss, mean.loss, rtol=1e-12)
        assert (found.params, found.notes) == (mean.params, mean.notes)
        with pytest.raises(InvalidRequest) as caught:
            fake.cross_entropy(x, ids, class_weight=-weights)
    with pytest.raises(InvalidRequest) as real:
        client.cross_entropy(x, ids, class_weight=-weights)
    assert caught.value.code == real.value.code == "weight_out_of_range"
    with LossClient(playback.url) as other:
        other.cross_entropy(x, ids, class_weight=weights)
    assert dict(playback.last.query) == {"tensors": "logits,targets,class_weight"}

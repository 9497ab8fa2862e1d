"""The metrics against a real server, with torchmetrics' own collection and ranks of torch's own."""

import math
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest
import torch
from torch import Tensor
from torch.nn import Linear, ModuleDict
from torch.nn.functional import binary_cross_entropy_with_logits
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import BinaryAccuracy

import lossd_client.torchmetrics
from client.losses import PARAMS, tensors_of
from lossd.core.catalog import LOSSES as SERVER_LOSSES
from lossd_client import HttpxTransport, InvalidRequest, LossClient, Request, Response, Timeout
from lossd_client._calls.parameters import LOSSES
from lossd_client.torchmetrics import Normalizer, RemoteBCE, RemoteFocal, RemoteReport

RANKS = 2
Batches = list[tuple[Tensor, Tensor]]
MetricT = TypeVar("MetricT", bound=Metric)


class Counting(HttpxTransport):
    """Connections that count what is asked over them."""

    def __init__(self) -> None:
        super().__init__()
        self.paths: list[str] = []

    def send(self, request: Request, timeout: Timeout) -> Response:
        self.paths.append(request.path)
        return super().send(request, timeout)


@pytest.fixture
def transport() -> Counting:
    return Counting()


@pytest.fixture
def client(base_url: str, transport: Counting) -> Iterator[LossClient]:
    with LossClient(base_url, transport=lambda: transport) as opened:
        yield opened


@pytest.fixture
def closing() -> Iterator[Callable[[MetricT], MetricT]]:
    """Closes the connections of metrics that have a client of their own."""
    made: list[Any] = []

    def keep(metric: MetricT) -> MetricT:
        made.append(metric)
        return metric

    yield keep
    for metric in made:
        metric.client.close()


def batches(sizes: tuple[int, ...] = (7, 7, 2), classes: int = 5) -> Batches:
    """Of float32, the last one short, with values of which every float32 sum would be rounded."""
    chance = torch.Generator().manual_seed(0)
    return [
        (
            4 * torch.randn(size, classes, generator=chance),
            (torch.rand(size, classes, generator=chance) < 0.3).to(torch.float32),
        )
        for size in sizes
    ]


def bce(logits: Tensor, targets: Tensor, pos_weight: float = 1.0) -> Tensor:
    factor = torch.tensor(pos_weight, dtype=torch.float64)
    return binary_cross_entropy_with_logits(
        logits.double(), targets.double(), reduction="none", pos_weight=factor
    )


def focal(logits: Tensor, targets: Tensor, gamma: float, alpha: float) -> Tensor:
    p, y = torch.sigmoid(logits.double()), targets.double()
    p_t, alpha_t = p * y + (1 - p) * (1 - y), alpha * y + (1 - alpha) * (1 - y)
    return alpha_t * (1 - p_t) ** gamma * bce(logits, targets)


def joined(given: Batches) -> tuple[Tensor, Tensor]:
    return torch.cat([logits for logits, _ in given]), torch.cat([targets for _, targets in given])


def close_to(value: Tensor) -> Any:  # noqa: ANN401 - pytest's
    return pytest.approx(value.item(), rel=1e-12)


def metric_of(name: str) -> Any:  # noqa: ANN401 - the class of any metric
    metric_name = "RemoteBCE" if name == "bce" else f"Remote{name.title().replace('_', '')}"
    return getattr(lossd_client.torchmetrics, metric_name)


@pytest.mark.parametrize("name", LOSSES)
def test_each_loss_has_a_metric(client: LossClient, name: str) -> None:
    tensors = {key: torch.from_numpy(array) for key, array in tensors_of(name).items()}
    preds, target = tensors.pop(LOSSES[name].inputs[0]), tensors.pop("targets")
    metric = metric_of(name)(client, **PARAMS[name], normalizer="weight")
    for rows in (slice(0, 7), slice(7, 40)):
        parts = {key: tensor[rows] for key, tensor in tensors.items()}
        metric.update(preds[rows], target[rows], **parts)
    ask: Any = getattr(client, name)
    whole = ask(preds, target, **tensors, **PARAMS[name], normalizer="weight")
    assert float(metric.compute()) == float(whole)
    assert (float(getattr(metric, f"{name}_sum")), float(getattr(metric, f"{name}_weight"))) == (
        whole.sum,
        whole.weight_sum,
    )


@pytest.mark.parametrize("name", LOSSES)
def test_a_mean_divides_by_what_the_server_takes(client: LossClient, name: str) -> None:
    normalizer = next(each for each in SERVER_LOSSES[name].all_parameters if each.name == "normalizer")
    for word in ("count", "weight", "positives"):
        try:
            normalizer.check(word)
        except ValueError as refused:
            its_words = str(refused).partition(", or a positive")[0]
            with pytest.raises(ValueError, match=f"normalizer {its_words}, and is '{word}'"):
                metric_of(name)(client, normalizer=word)
        else:
            metric_of(name)(client, normalizer=word)


@pytest.mark.parametrize("name", ["dice", "tversky"])
def test_means_over_all_samples_are_no_metrics(client: LossClient, name: str) -> None:
    with pytest.raises(ValueError, match="Unexpected keyword arguments: `per`"):
        metric_of(name)(client, per="all")
    with pytest.raises(ValueError, match="reports of batches cannot be joined by per='class'"):
        RemoteReport("tversky", client, per="class")
    with pytest.raises(TypeError, match="hinge takes no probabilities, only logits"):
        RemoteReport("hinge", client, probabilities=True)


def test_the_mean_of_batches_is_that_of_all_of_them(client: LossClient, transport: Counting) -> None:
    metric = RemoteBCE(client)
    for logits, targets in batches():
        metric.update(logits, targets)
    got = metric.compute()
    assert got.dtype == torch.float64
    assert got.shape == ()
    assert float(got) == close_to(bce(*joined(batches())).mean())
    assert metric.bce_weight == 80
    assert transport.paths == ["/bce"] * 3


def test_focal_has_its_own_states_and_parameters(client: LossClient, transport: Counting) -> None:
    metric = RemoteFocal(client, gamma=2.0, alpha=0.4)
    for logits, targets in batches():
        metric.update(logits, targets)
    assert float(metric.compute()) == close_to(focal(*joined(batches()), gamma=2.0, alpha=0.4).mean())
    assert float(metric.focal_sum / metric.focal_weight) == float(metric.compute())
    assert transport.paths == ["/focal"] * 3


@pytest.mark.parametrize("normalizer", ["count", "weight", "positives"])
def test_weights_masks_and_what_the_mean_divides_by(client: LossClient, normalizer: Normalizer) -> None:
    metric = RemoteBCE(client, normalizer=normalizer, pos_weight=3.0)
    weight, total, divisor = torch.tensor([0.5, 1.0, 2.0, 1.0, 0.25]), 0.0, 0.0
    for logits, targets in batches():
        mask = logits.abs() < 5
        metric.update(logits, targets, weight=weight, mask=mask)
        total += float((bce(logits, targets, pos_weight=3.0) * weight * mask).sum())
        kept = {"count": mask, "weight": weight * mask, "positives": targets * mask}[normalizer]
        divisor += float(kept.double().sum())
    assert float(metric.compute()) == pytest.approx(total / divisor, rel=1e-12)


@pytest.mark.parametrize("kind", ["RemoteCrossEntropy", "RemoteReport"])
def test_a_mean_that_is_not_torchs_is_a_warning(client: LossClient, kind: str) -> None:
    logits, ids = torch.arange(12.0).reshape(4, 3), torch.tensor([0, 2, 1, 1])
    made: Any = getattr(lossd_client.torchmetrics, kind)
    made = (
        made
        if kind != "RemoteReport"
        else lambda *args, **given: RemoteReport("cross_entropy", *args, **given)
    )
    weighted = made(client, class_weight=[1.0, 2.0, 3.0])
    with pytest.warns(UserWarning, match="divides by the number of losses"):
        weighted.update(logits, ids)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        weighted.update(logits, ids)
        made(client, class_weight=[1.0, 2.0, 3.0], normalizer="weight").update(logits, ids)
        made(client, class_weight=[1.0, 2.0, 3.0], targets_format="dense").update(logits, logits.softmax(1))


def test_what_a_result_notes_is_a_warning_once(client: LossClient) -> None:
    logits, targets = batches((5,))[0]
    for metric in (RemoteBCE(client), RemoteFocal(client)):
        with pytest.warns(UserWarning, match=r"weight of shape \[5\] goes along axis 1") as told:
            metric.update(logits, targets, weight=torch.ones(5))
        assert len(told) == 1
        assert told[0].filename == __file__
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            metric.update(logits, targets, weight=torch.ones(5))
            metric(logits, targets, weight=torch.ones(5))
        with pytest.warns(UserWarning, match="are they swapped"):
            metric.update((logits > 0).float(), torch.sigmoid(logits))


def test_probabilities_class_ids_and_a_weight_a_class(client: LossClient) -> None:
    logits, _ = batches()[0]
    ids = torch.arange(7) % 5
    factors = torch.linspace(0.5, 2.0, 5)
    metric = RemoteBCE(client, probabilities=True, targets_format="index", pos_weight=factors)
    metric.update(torch.sigmoid(logits.double()), ids)
    one_hot = torch.nn.functional.one_hot(ids, 5).double()
    expected = binary_cross_entropy_with_logits(logits.double(), one_hot, pos_weight=factors.double())
    assert float(metric.compute()) == close_to(expected)


def test_a_background_and_targets_that_are_missing(client: LossClient) -> None:
    logits, _ = batches()[0]
    ids = torch.tensor([5.0, 2.0, math.nan, 0.0, 5.0, 4.0, math.nan])
    options: dict[str, Any] = {"targets_format": "index", "background_index": 5, "ignore_index": math.nan}
    metric = RemoteFocal(client, gamma=2.0, alpha=0.4, **options)
    metric.update(logits, ids)
    known = ~ids.isnan()
    dense = torch.nn.functional.one_hot(ids[known].long(), 6)[:, :5].double()
    assert float(metric.compute()) == close_to(focal(logits[known], dense, gamma=2.0, alpha=0.4).mean())
    assert metric.focal_weight == 25
    missing = RemoteBCE(client, ignore_index="nan")
    targets = torch.where(logits > 2, math.nan, (logits > 0).double())
    missing.update(logits, targets)
    kept = logits <= 2
    assert float(missing.compute()) == close_to(bce(logits[kept], targets[kept]).mean())
    other = RemoteFocal(client, gamma=2.0, alpha=0.4, targets_format="index", ignore_index="nan")
    with pytest.raises(ValueError, match="different parameters"):
        other.merge_state(metric)


@pytest.mark.parametrize("shape", [(5,), (5, 1, 1), (7, 1, 1, 1), (7, 5, 2, 3)])
def test_pos_weight_of_any_shape_that_broadcasts(client: LossClient, shape: tuple[int, ...]) -> None:
    chance = torch.Generator().manual_seed(1)
    logits = torch.randn(7, 5, 2, 3, generator=chance)
    factors = 1 + torch.randint(4, shape, generator=chance)
    metric = RemoteBCE(client, pos_weight=factors, class_axis=1 if len(shape) == 1 else -1)
    metric.update(logits, (logits > 0.5).float())
    as_torch = factors.reshape(5, 1, 1) if len(shape) == 1 else factors
    expected = binary_cross_entropy_with_logits(
        logits.double(), (logits > 0.5).double(), pos_weight=as_torch.double()
    )
    assert float(metric.compute()) == close_to(expected)


def test_forward_gives_the_batch_alone_and_asks_once(client: LossClient, transport: Counting) -> None:
    metric = RemoteBCE(client)
    for logits, targets in batches():
        assert float(metric(logits.requires_grad_(), targets)) == close_to(bce(logits, targets).mean())
    assert float(metric.compute()) == close_to(bce(*joined(batches())).mean())
    assert not metric.compute().requires_grad
    assert len(transport.paths) == 3


def test_a_mean_over_nothing_is_nan(client: LossClient) -> None:
    metric = RemoteBCE(client)
    with pytest.warns(UserWarning, match="before the ``update`` method"):
        assert math.isnan(metric.compute())
    assert math.isnan(metric(torch.zeros(0, 5), torch.zeros(0, 5)))
    metric.update(torch.zeros(2), torch.ones(2))
    assert float(metric.compute()) == pytest.approx(math.log(2))
    positives = RemoteBCE(client, normalizer="positives")
    positives.update(torch.zeros(2), torch.zeros(2))
    assert float(positives.compute()) == pytest.approx(2 * math.log(2))  # divided by 1 at least


def test_what_was_added_outlives_a_refused_batch(client: LossClient) -> None:
    metric = RemoteBCE(client)
    for logits, targets in batches():
        metric.update(logits, targets)
    before = float(metric.compute())
    for way in (metric.update, metric):
        with pytest.raises(InvalidRequest, match="target_out_of_range"):
            way(torch.zeros(2), torch.tensor([0.0, 1.5]))
        assert float(metric.compute()) == before
    logits, targets = batches()[0]
    assert float(metric(logits, targets)) == close_to(bce(logits, targets).mean())
    assert float(metric.compute()) == close_to(bce(*joined([*batches(), batches()[0]])).mean())


@pytest.mark.parametrize("copied", [lambda m: pickle.loads(pickle.dumps(m)), deepcopy, lambda m: m.clone()])
def test_copies_go_their_own_way(
    base_url: str, closing: Callable[[Metric], Any], copied: Callable[[Metric], Metric]
) -> None:
    (first, second, _), both = batches(), joined(batches()[:2])
    metric = closing(RemoteFocal(base_url=base_url, gamma=2.0, alpha=0.4))
    metric.update(*first)
    copy = closing(copied(metric))
    copy.update(*second)
    assert float(metric.compute()) == close_to(focal(*first, gamma=2.0, alpha=0.4).mean())
    assert float(copy.compute()) == close_to(focal(*both, gamma=2.0, alpha=0.4).mean())
    copy.reset()
    copy.update(*second)
    assert float(copy.compute()) == close_to(focal(*second, gamma=2.0, alpha=0.4).mean())


@pytest.mark.parametrize(
    "change",
    [
        lambda module: module.half(),
        lambda module: module.to(torch.bfloat16),
        lambda module: module.to("cpu", torch.float16),
        lambda module: module.type(torch.float16),
        lambda module: module.metric.set_dtype(torch.float16),
    ],
)
def test_no_change_of_dtype_cuts_the_sums(client: LossClient, change: Callable[[Any], Any]) -> None:
    model = ModuleDict({"metric": RemoteBCE(client), "layer": Linear(2, 2)})
    metric: RemoteBCE = model["metric"]  # type: ignore[assignment] # it is what was put there
    metric.update(*batches()[0])
    before = float(metric.bce_sum)
    change(model)
    assert (metric.bce_sum_digits.dtype, metric.bce_weight_digits.dtype) == (torch.int64, torch.int64)
    assert float(metric.bce_sum) == before
    metric.reset()
    metric.update(*batches()[0])
    assert float(metric.bce_sum) == before
    assert metric.compute().dtype == torch.float64


def test_half_precision_predictions(client: LossClient) -> None:
    logits, targets = batches()[0]
    for dtype in (torch.float16, torch.bfloat16):
        metric = RemoteBCE(client)
        metric.update(logits.to(dtype), targets.to(torch.int64))
        assert float(metric.compute()) == close_to(bce(logits.to(dtype), targets).mean())


def test_a_collection_of_both_losses_and_one_of_torchmetrics_own(
    client: LossClient, transport: Counting
) -> None:
    metrics = MetricCollection(
        [RemoteBCE(client), RemoteFocal(client, gamma=0.0, alpha=None), BinaryAccuracy()]
    )
    for logits, targets in batches():
        metrics.update(preds=logits, target=targets)
    assert transport.paths == ["/bce", "/focal"] * 3
    assert len(metrics.compute_groups) == 3
    got = metrics.compute()
    assert got.keys() == {"RemoteBCE", "RemoteFocal", "BinaryAccuracy"}
    assert float(got["RemoteBCE"]) == close_to(bce(*joined(batches())).mean())
    assert float(got["RemoteFocal"]) == pytest.approx(float(got["RemoteBCE"]), rel=1e-12)  # with that gamma
    metrics.reset()
    logits, targets = batches()[2]
    assert float(metrics(logits, targets)["RemoteBCE"]) == close_to(bce(logits, targets).mean())


@pytest.mark.parametrize("copied", [lambda m: pickle.loads(pickle.dumps(m)), deepcopy, lambda m: m.clone()])
def test_a_copied_collection_goes_its_own_way(
    base_url: str, copied: Callable[[MetricCollection], MetricCollection]
) -> None:
    with LossClient(base_url) as client:
        metrics = MetricCollection({name: RemoteBCE(client) for name in ("a", "b")})
        metrics.update(*batches()[0])
        copy = copied(metrics)
        first, second = (cast(RemoteBCE, copy[name]).client for name in ("a", "b"))
        with first:
            assert first is second is not client
            copy.update(*batches()[1])
            for value in copy.compute().values():
                assert float(value) == close_to(bce(*joined(batches()[:2])).mean())
        assert float(metrics.compute()["b"]) == close_to(bce(*batches()[0]).mean())


def test_a_collection_keeps_parameters_apart_where_the_first_batch_does_not_show_them(
    client: LossClient,
) -> None:
    metrics = MetricCollection({f"by_{factor}": RemoteBCE(client, pos_weight=factor) for factor in (1, 8)})
    logits, targets = batches()[0]
    metrics.update(logits, torch.zeros_like(targets))  # without positives
    assert len(metrics.compute_groups) == 2
    metrics.update(logits, targets)
    got, rest = metrics.compute(), bce(logits, torch.zeros_like(targets)).sum()
    for factor in (1, 8):
        assert float(got[f"by_{factor}"]) == close_to((bce(logits, targets, factor).sum() + rest) / 70)


def test_a_collection_asks_once_for_the_same_metric_twice(client: LossClient, transport: Counting) -> None:
    metrics = MetricCollection({name: RemoteBCE(client, pos_weight=2.0) for name in ("a", "b")})
    for logits, targets in batches():
        metrics.update(logits, targets)
    assert len(metrics.compute_groups) == 1
    assert len(transport.paths) == 4  # the first batch shows that they are the same
    for value in metrics.compute().values():
        assert float(value) == close_to(bce(*joined(batches()), 2.0).mean())


def test_metrics_of_the_same_parameters_can_be_merged_and_no_others(client: LossClient) -> None:
    first, second, other = RemoteFocal(client), RemoteFocal(client), RemoteFocal(client, gamma=2.5)
    whole = RemoteFocal(client)
    other.update(*batches()[2])
    for metric, batch in zip((first, second), batches(), strict=False):
        metric.update(*batch)
        whole.update(*batch)
    first.merge_state(second)
    assert float(first.compute()) == pytest.approx(float(whole.compute()), rel=1e-14)
    with pytest.raises(ValueError, match="made with different parameters"):
        first.merge_state(other)
    assert float(first.focal_sum / first.focal_weight) == pytest.approx(float(whole.compute()), rel=1e-14)


def test_saved_states_go_on(client: LossClient) -> None:
    metric = RemoteBCE(client)
    metric.persistent(True)
    metric.update(*batches()[0])
    other = RemoteBCE(client)
    other.load_state_dict(metric.state_dict())
    other.update(*batches()[1])
    assert float(other.compute()) == close_to(bce(*joined(batches()[:2])).mean())


def test_mistakes_are_told_at_once(client: LossClient) -> None:
    with pytest.raises(TypeError, match="not both"):
        RemoteBCE(client, base_url="http://127.0.0.1:1")
    with pytest.raises(ValueError, match="divide bce_sum"):
        RemoteBCE(client, normalizer=64)  # type: ignore[arg-type] # as it says
    with pytest.raises(ValueError, match="Unexpected keyword arguments: `gama`"):
        RemoteFocal(client, gama=2.0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu(client: LossClient) -> None:
    metric = RemoteBCE(client).to("cuda")
    for logits, targets in batches():
        metric.update(logits.cuda(), targets.cuda())
    got = metric.compute()
    assert (got.device.type, got.dtype) == ("cuda", torch.float64)
    assert got.item() == close_to(bce(*joined(batches())).mean())


RANK = """
import sys
import torch
from torch import distributed
from torchmetrics import MetricCollection
from client.test_torchmetrics import RANKS, batches
from lossd_client import LossClient
from lossd_client.torchmetrics import RemoteBCE, RemoteFocal

rank, url, meeting = int(sys.argv[1]), sys.argv[2], sys.argv[3]
distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=RANKS)
with LossClient(url) as client:
    metrics = MetricCollection([RemoteBCE(client), RemoteFocal(client, gamma=2.0, alpha=0.4)])
    stepwise = RemoteBCE(client, dist_sync_on_step=True)
    given = batches()
    for logits, targets in given[rank::RANKS]:  # two batches and one
        metrics.update(logits, targets)
    got = metrics.compute()
    assert metrics["RemoteBCE"].bce_weight == sum(t.numel() for _, t in given[rank::RANKS])  # its own again
    step = stepwise(*given[rank])
    unlike = RemoteBCE(client, pos_weight=1.0 + rank)
    unlike.update(*given[0])
    try:
        unlike.compute()
    except ValueError as error:
        refused = str(error)
print(*(float(value).hex() for value in (got["RemoteBCE"], got["RemoteFocal"], step)), refused, sep="\\n")
distributed.destroy_process_group()
"""


def test_ranks_have_the_bits_of_one_request(base_url: str, client: LossClient, tmp_path: Path) -> None:
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(rank), base_url, str(tmp_path / "meeting")],
            cwd=Path(__file__).parents[1],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(RANKS)
    ]
    try:
        said = [rank.communicate(timeout=90) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
    everything, step = joined(batches()), joined(batches()[:2])
    for rank, (out, err) in zip(ranks, said, strict=True):
        assert rank.returncode == 0, err
        *said_of, refused = out.splitlines()
        total, focal_total, stepwise = map(float.fromhex, said_of)
        assert total == float(client.bce(*everything)) == close_to(bce(*everything).mean())
        assert focal_total == float(client.focal(*everything, gamma=2.0, alpha=0.4))
        assert stepwise == float(client.bce(*step))
        assert "different parameters" in refused


@pytest.mark.parametrize("normalizer", ["count", "weight", "positives"])
def test_batches_in_any_order_have_the_bits_of_one_request(
    client: LossClient, normalizer: Normalizer
) -> None:
    given = batches((40, 7, 1, 33, 90))
    weights = [0.01 + targets + logits.abs() for logits, targets in given]
    whole = client.bce(*joined(given), weight=torch.cat(weights), normalizer=normalizer)
    for order in ([0, 1, 2, 3, 4], [4, 2, 0, 3, 1]):
        metric, twin = (RemoteBCE(client, normalizer=normalizer) for _ in range(2))
        for number, place in enumerate(order):
            (metric, twin)[number % 2].update(*given[place], weight=weights[place])
        metric.merge_state(twin)
        assert float(metric.compute()) == float(whole)
        assert (float(metric.bce_sum), metric.compute().dtype) == (whole.sum, torch.float64)

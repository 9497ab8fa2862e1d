"""What computed a result, and from which parameters: the same to read in whatever form it came."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from lossd_client import LossClient, LossResult

N, C = 12, 20
RNG = np.random.default_rng(4)
X, Y = RNG.normal(size=(N, C)), RNG.random((N, C)) < 0.3
ALPHA = np.linspace(0, 1, C).tolist()  # longer than what a header has in full
PARTS: dict[str, Any] = {"request_bytes": 4 * C * 9}
BATCHES = [(X[start : start + 5], Y[start : start + 5]) for start in range(0, N, 5)]


@pytest.fixture(scope="module")
def client(base_url: str) -> Iterator[LossClient]:
    with LossClient(base_url) as opened:
        yield opened


Score = Callable[..., LossResult]
WAYS: dict[str, Callable[[LossClient], Score]] = {
    "one": lambda client: lambda **more: client.focal(X, Y, **more),
    "parts": lambda client: lambda **more: client.with_options(**PARTS).focal(X, Y, **more),
    "batches": lambda client: lambda **more: client.score_batches("focal", BATCHES, **more),
    "stream": lambda client: lambda **more: client.score_stream("focal", BATCHES, **more),
    "merged": lambda client: (
        lambda **more: LossResult.merge(
            [
                LossResult.merge(client.iter_batches("focal", BATCHES[:2], **more)),
                client.focal(*BATCHES[2], **more),
            ]
        )
    ),
}
FORMS: dict[str, dict[str, Any]] = {
    "scalar": {},
    "sum": {"reduction": "sum"},
    "none": {"reduction": "none"},
    "classes": {"axis": 0},
    "rows": {"axis": 1},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("way", WAYS)
def test_a_result_says_what_it_is_of(client: LossClient, way: str, form: str) -> None:
    shape = FORMS[form]
    own: dict[str, Any] = {"alpha": ALPHA, "variant": "quality"}
    more: dict[str, Any] = {"label_smoothing": 0.1, "pos_weight": np.arange(1.0, C + 1).tolist(), **shape}
    result = WAYS[way](client)(**own, **more)
    assert result.params == {"gamma": 1.5, **own}
    options = dict(result.options)
    pos_weight = options.pop("pos_weight")
    assert pos_weight == more["pos_weight"] or pos_weight["shape"] == [C]
    assert options == {
        "axis": shape.get("axis"),
        "normalizer": "count",
        "class_axis": -1,
        "targets_format": "dense",
        "background_index": None,
        "label_smoothing": 0.1,
        "ignore_index": None,
        "allow_nan": False,
    }
    assert result.reduction == shape.get("reduction", "mean")
    assert (result.loss_name, result.shape) == ("focal", (N, C))
    assert result.kernel == client.focal([0.0], [1.0]).kernel
    assert result.version == client.info()["version"]
    assert (result.request_id is None) == (
        way in ("batches", "merged")
    )  # several requests of the caller's own
    assert result.timing["compute"] >= 0


def test_targets_that_are_sent_as_ids_are_what_was_given(client: LossClient) -> None:
    one_hot = np.eye(C)[:N]
    for shape in FORMS.values():
        result = client.with_options(one_hot_as_ids=True).bce(X, one_hot, class_axis=1, **shape)
        assert (result.options["targets_format"], result.options["class_axis"]) == ("dense", 1)


def test_results_of_other_kernels_and_versions_are_merged_without_one(client: LossClient) -> None:
    [one, other] = client.iter_batches("bce", BATCHES[:2], reduction="sum")
    elsewhere = LossResult(
        **{**{name: getattr(other, name) for name in LossResult.__dataclass_fields__}, "kernel": "torch"}
    )
    merged = LossResult.merge([one, elsewhere])
    assert (merged.kernel, merged.version) == (None, one.version)
    with pytest.raises(ValueError, match="results of different params cannot be merged"):
        LossResult.merge([client.focal(X, Y), client.focal(X, Y, gamma=2.0)])

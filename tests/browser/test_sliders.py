"""The loss at other parameters, as the page finds it without a request, against the Python client's."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pytest

from lossd_client import LossClient, Report

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from live_server import LiveServer

_GAMMAS: Final = [0, 0.5, 2, 3]
_LISTS: Final = [[0.1, 0.9, 0.5], [0, 1, 1]]
_ASK: Final = """async ([document, points, name]) => {
  const sweep = await import("/ui/sweep.js");
  return points.map((point) => {
    try {
      return sweep[name](document, point);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      return error.message;
    }
  });
}"""


@pytest.fixture(scope="module")
def client(server: LiveServer) -> Any:  # noqa: ANN401
    with LossClient(server.url) as made:
        yield made


def _report(client: LossClient, loss: str, **given: Any) -> Report:  # noqa: ANN401
    rng = np.random.default_rng(3)
    x, y = rng.normal(scale=4, size=(20, 3)), rng.random((20, 3)) < 0.3
    if given.pop("weighted", False):
        given["weight"] = rng.random((20, 3))
    if given.pop("infinite", False):
        x[3, 1], y[3, 1] = -np.inf, True
    sweep: dict[str, Any] = {"sections": ["classes", "sweep"]}
    if loss == "focal":
        sweep |= {"sweep": {"gamma": _GAMMAS}, "gamma": 2.0}
    ask: Any = client.report  # of either loss
    report: Report = ask(loss, x, y, **{**sweep, **given})
    return report


def _points(loss: str, *, is_exp: bool = False) -> list[dict[str, Any]]:
    rng = np.random.default_rng(4)
    weights: list[Any] = (
        [{}] if is_exp else [{}, *({"pos_weight": each} for each in (0, 0.1, 3.5, 1e9, None))]
    )
    if not is_exp:
        weights += [{"pos_weight": rng.uniform(0, 10, 3).tolist()}]
    if loss == "bce":
        return weights
    alphas = [{}, *({"alpha": each} for each in (None, 0, 0.25, 1, 1 - 2**-52, *_LISTS))]
    gammas = [{}, *({"gamma": each} for each in _GAMMAS)]
    return [{**a, **w, **g} for a in alphas for w in weights for g in gammas]


@pytest.mark.parametrize(
    ("loss", "given"),
    [
        ("bce", {}),
        ("bce", {"weighted": True, "normalizer": "weight", "pos_weight": 2.5}),
        ("bce", {"label_smoothing": 0.1, "pos_weight": [1.0, 2.0, 0.5]}),
        ("focal", {}),
        ("focal", {"alpha": None, "normalizer": "positives"}),
        ("focal", {"variant": "quality", "normalizer": 7.5, "label_smoothing": 0.2}),
        ("focal", {"variant": "exp", "pos_weight": 1.5, "weighted": True}),
        ("focal", {"variant": "exp", "alpha": None}),
        ("focal", {"alpha": [0.2, 0.3, 0.4], "pos_weight": [1.0, 2.0, 3.0], "weighted": True}),
        ("focal", {"infinite": True}),
    ],
    ids=str,
)
def test_the_mean_is_what_the_client_finds(page: Page, client: LossClient, loss: str, given: Any) -> None:  # noqa: ANN401
    report = _report(client, loss, **given)
    points = _points(loss, is_exp=given.get("variant") == "exp")
    found = page.evaluate(_ASK, [report.to_dict(), points, "meanAt"])
    for point, mean in zip(points, found, strict=True):
        wanted = report.at(**point)
        assert mean == pytest.approx(wanted, rel=1e-12, abs=0, nan_ok=True), point


def test_the_means_of_classes_are_what_requests_say(page: Page, client: LossClient) -> None:
    report = _report(client, "focal", weighted=True, normalizer="weight")
    point = {"alpha": 0.6, "pos_weight": 3, "gamma": 0.5}
    [found] = page.evaluate(_ASK, [report.to_dict(), [point], "classMeansAt"])
    wanted = _report(client, "focal", weighted=True, normalizer="weight", **point)
    assert found == pytest.approx([each.mean for each in wanted.classes], rel=1e-12)


@pytest.mark.parametrize(
    ("loss", "given", "point"),
    [
        ("focal", {}, {"gamma": 1}),
        ("focal", {}, {"alpha": 1.5}),
        ("focal", {}, {"alpha": [0.5, 0.5]}),
        ("focal", {"sections": ["sweep"]}, {"alpha": [0.5, 0.5, 0.5]}),
        ("focal", {}, {"pos_weight": -1}),
        ("focal", {"variant": "exp"}, {"pos_weight": 2}),
        ("focal", {"pos_weight": np.full((20, 3), 2.0)}, {}),
    ],
    ids=str,
)
def test_what_the_client_refuses_is_refused(
    page: Page,
    client: LossClient,
    loss: str,
    given: Any,  # noqa: ANN401
    point: dict[str, Any],
) -> None:
    report = _report(client, loss, **given)
    with pytest.raises((ValueError, LookupError)):
        report.at(**point)
    [found] = page.evaluate(_ASK, [report.to_dict(), [point], "meanAt"])
    assert isinstance(found, str), found
    assert found


def test_a_document_that_went_through_json_reads_the_same(page: Page, client: LossClient) -> None:
    document = _report(client, "focal", infinite=True, allow_nan=True).to_dict()
    again = json.loads(page.evaluate("(document) => JSON.stringify(document)", document))
    assert Report(again) == Report(document)
    assert math.isinf(Report(again).mean)

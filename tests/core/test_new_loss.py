"""An operator's loss is one function and one entry in the catalogue; a built-in loss is in every table."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from core import scoring
from core.scoring import BLOCK, work
from lossd.core import catalog
from lossd.core.catalog import LOSSES, SHARED, Loss, Parameter, register
from lossd.core.losses.elements import Element, Inputs, function_of
from lossd.core.losses.kernel import TorchKernel
from lossd.core.parameters import check_params
from lossd.core.report.parameters import REPORT_BY_NAME
from lossd.types import RequestError


def scaled(x: Inputs, y: Tensor, z: Tensor, pos_weight: Tensor | None, *, scale: float) -> Element:
    """The function: cross entropy times a number."""
    return Element(scale * x.cross_entropy(y, z, pos_weight))


def _scale(value: object) -> float:
    if not isinstance(value, int | float) or value <= 0:
        msg = "must be a positive number"
        raise ValueError(msg)
    return float(value)


ENTRY = Loss(
    name="scaled",
    title="Scaled cross entropy",
    summary="s BCE",
    function=f"{__name__}:scaled",
    parameters=(Parameter("scale", 2.0, {"type": "number"}, "s", _scale),),
)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> TorchKernel:
    """A kernel that starts with the entry in the catalogue, wherever that is read."""
    listed = catalog.LOSSES
    longer = MappingProxyType({**listed, ENTRY.name: ENTRY})
    for module in list(sys.modules.values()):
        if getattr(module, "LOSSES", None) is listed:
            monkeypatch.setattr(module, "LOSSES", longer)
    fresh = TorchKernel()
    monkeypatch.setattr(scoring, "KERNELS", [fresh])
    return fresh


def test_a_registered_loss_scores_with_every_shared_parameter(kernel: TorchKernel) -> None:
    rng = np.random.default_rng(0)
    tensors: dict[str, Any] = {
        "logits": rng.normal(0, 4, (BLOCK // 4, 9)).astype(np.float32),
        "targets": rng.random((BLOCK // 4, 9)),
        "weight": rng.random(9),
        "mask": rng.random((BLOCK // 4, 1)) < 0.5,
        "pos_weight": rng.random(9),
    }
    shared: dict[str, Any] = {"label_smoothing": 0.1, "reduction": "sum", "axis": 0}
    plain = scoring.sums(work("bce", tensors, **shared))
    np.testing.assert_allclose(scoring.sums(work("scaled", tensors, **shared)), 2 * plain, rtol=1e-14)
    np.testing.assert_allclose(
        scoring.sums(work("scaled", tensors, scale=8, **shared)), 8 * plain, rtol=1e-14
    )


def test_a_registered_loss_takes_the_limits_too(kernel: TorchKernel) -> None:
    job = work(
        "scaled",
        {"logits": np.array([np.inf, np.inf, 0.0]), "targets": np.array([1, 0, 1])},
        reduction="none",
    )
    assert scoring.sums(job).tolist() == [0.0, np.inf, 2 * np.log(2)]


def test_a_registered_loss_checks_its_own_parameters(kernel: TorchKernel) -> None:
    with pytest.raises(RequestError, match="must be a positive number") as caught:
        check_params(ENTRY, {"scale": 0})
    assert caught.value.code == "invalid_parameter"
    with pytest.raises(RequestError, match="did you mean scale"):
        check_params(ENTRY, {"scael": 1})


@pytest.mark.parametrize("missing", [{"function": ""}, {"nanoseconds": 1.0}, {"row": "box"}])
def test_a_loss_that_no_kernel_can_compute_is_not_registered(
    missing: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "INCOMPLETE", replace(ENTRY, **missing))
    with pytest.raises(ValueError, match="must have a function for elements, and no nanoseconds"):
        register(f"{__name__}:INCOMPLETE")
    assert "scaled" not in LOSSES


@pytest.mark.parametrize("name", [*(parameter.name for parameter in SHARED), *REPORT_BY_NAME])
def test_a_parameter_that_all_losses_have_is_no_losss_own(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    own = replace(ENTRY.parameters[0], name=name)
    monkeypatch.setitem(globals(), "CLASHING", replace(ENTRY, parameters=(own,)))
    with pytest.raises(ValueError, match=f"has a parameter {name}, as all losses do"):
        register(f"{__name__}:CLASHING")


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_has_a_function(loss: str) -> None:
    assert callable(function_of(LOSSES[loss].function))


@pytest.mark.parametrize(
    ("place", "error"), [("nowhere.at_all:scaled", ImportError), (f"{__name__}:nothing", AttributeError)]
)
def test_a_loss_without_its_function_fails_when_a_kernel_starts(
    place: str, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    longer = MappingProxyType({**LOSSES, ENTRY.name: replace(ENTRY, function=place)})
    monkeypatch.setattr("lossd.core.losses.kernel.LOSSES", longer)
    with pytest.raises(error):
        TorchKernel()


def test_a_loss_that_is_not_registered_is_unknown() -> None:
    with pytest.raises(KeyError, match="scaled"):
        work("scaled", {"logits": np.zeros(1), "targets": np.zeros(1)})

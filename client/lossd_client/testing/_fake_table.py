"""The losses that the fake has: their formulas, and what their own parameters may be."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from sys import float_info
from typing import Any, Final, TypeAlias

from lossd_client._calls.loss import Loss
from lossd_client._calls.parameters import LOSSES as CATALOG
from lossd_client._calls.parameters import OPTIONS
from lossd_client.testing import _fake_formulas as formulas

Formula: TypeAlias = Callable[[formulas.Tensors, Mapping[str, Any]], formulas.Scores]


@dataclass(frozen=True, slots=True)
class FakeLoss:
    """A loss.

    Attributes:
        entry: What the client knows of it.
        formula: Its formula.
        limits: The least and the greatest number that a parameter of its own may be.
    """

    entry: Loss
    formula: Formula
    limits: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def own(self) -> Mapping[str, Any]:
        """Its own parameters, with their defaults."""
        return {name: parameter.default for name, parameter in self.entry.own.items()}

    @property
    def words(self) -> Mapping[str, tuple[str, ...]]:
        """The words that parameters of its own may be."""
        return {name: parameter.words for name, parameter in self.entry.own.items() if parameter.words}

    @property
    def tensors(self) -> tuple[str, ...]:
        """The names of the tensors that it takes."""
        named = ("targets", "weight", "mask", "groups", "ids", "baseline")
        lists = [name for name in ("pos_weight", "class_weight") if name in {**self.options, **self.own}]
        return (*self.entry.inputs, *lists, *named)

    @property
    def options(self) -> Mapping[str, Any]:
        """The options that are not among its own parameters, with their defaults."""
        entry = self.entry
        return {
            name: value for name, value in OPTIONS.items() if name in entry.shared and name not in entry.own
        }


_GAMMA: Final = (0.0, 1000.0)
_SHARE: Final = (0.0, 1.0)
_FACTOR: Final = (0.0, 1e6)
_OF_CLASS: Final = (0.0, float_info.max)

LOSSES: Final[Mapping[str, FakeLoss]] = {
    each.entry.name: each
    for each in (
        FakeLoss(CATALOG["bce"], formulas.bce),
        FakeLoss(CATALOG["focal"], formulas.focal, {"gamma": _GAMMA, "alpha": _SHARE}),
        FakeLoss(
            CATALOG["asymmetric"],
            formulas.asymmetric,
            {"gamma_pos": _GAMMA, "gamma_neg": _GAMMA, "clip": _SHARE},
        ),
        FakeLoss(CATALOG["varifocal"], formulas.varifocal, {"alpha": _SHARE, "gamma": _GAMMA}),
        FakeLoss(CATALOG["cross_entropy"], formulas.cross_entropy, {"class_weight": _OF_CLASS}),
        FakeLoss(CATALOG["softmax_focal"], formulas.softmax_focal, {"gamma": _GAMMA, "alpha": _OF_CLASS}),
        FakeLoss(CATALOG["dice"], formulas.overlap, {"smooth": _FACTOR}),
        FakeLoss(
            CATALOG["tversky"], formulas.overlap, {"smooth": _FACTOR, "alpha": _FACTOR, "beta": _FACTOR}
        ),
        FakeLoss(CATALOG["squared"], formulas.squared),
        FakeLoss(CATALOG["hinge"], formulas.hinge),
        FakeLoss(CATALOG["box"], formulas.box),
    )
}
"""The losses by name."""

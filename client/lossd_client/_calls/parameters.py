"""The parameters of a loss and of its report: their types, names and defaults."""

from collections.abc import Mapping
from typing import Any, Final, TypeAlias, get_args

from lossd_client._calls import catalog
from lossd_client._calls.values import (
    DEFAULT,
    Axis,
    Bins,
    Default,
    IgnoreIndex,
    Normalizer,
    Reduction,
    RowLoss,
    Section,
    Sections,
    Sweep,
    TargetsFormat,
    Variant,
)

__all__ = [
    "DEFAULT",
    "INPUTS",
    "LOSSES",
    "OPTIONS",
    "REPORT",
    "SECTIONS",
    "SHARED",
    "Axis",
    "Bins",
    "Default",
    "IgnoreIndex",
    "LossName",
    "Normalizer",
    "Reduction",
    "RowLoss",
    "Section",
    "Sections",
    "Sweep",
    "TargetsFormat",
    "Variant",
]

LossName: TypeAlias = catalog.LossName
"""The losses that have methods of their own."""
LOSSES: Final = catalog.LOSSES
SHARED: Final = catalog.SHARED
"""The parameters that losses have in common, with the API's defaults. What equals its default is not sent.

The clients' methods repeat these defaults, for readers of a signature.
"""
INPUTS: Final = tuple(dict.fromkeys(name for loss in LOSSES.values() for name in loss.inputs))
"""The names that inputs may have."""
OPTIONS: Final[Mapping[str, Any]] = {name: SHARED[name] for name in SHARED if name != "reduction"}
"""The other parameters in common, with the contract's defaults."""
SECTIONS: Final = get_args(Section)
REPORT: Final[Mapping[str, Any]] = {
    "sections": None,
    "top": 20,
    "row": "sum",
    "first_row": 0,
    "calibration_bins": 64,
    "sweep": None,
}
"""The parameters of a report, with their defaults."""

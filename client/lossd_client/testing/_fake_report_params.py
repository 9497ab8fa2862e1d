"""What a request asks of a report, for `fake`."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from numpy.typing import NDArray

from lossd_client._calls.parameters import REPORT, SECTIONS
from lossd_client.testing._fake_table import FakeLoss
from lossd_client.testing._fake_tensors import Refused

PARAMS: Final = ("report", "group_names", *(name for name in REPORT if name != "sections"))
_MOST_COLUMNS: Final = 8
_MOST_CLASS_BINS: Final = 1 << 18
_USES: Final = {"groups": "groups", "ids": "top", "baseline": "paired"}
_SECTION_OF: Final = {"top": "top", "calibration_bins": "calibration"}
"""The section that uses a tensor."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks of a report.

    Attributes:
        sections: The sections.
        top: The length of the lists.
        row: "sum" or "mean".
        first_row: The index of the first row.
        bins: Those of the calibration; "exact" for one a value.
        gammas: Those of the sweep.
        group_names: The names of the groups' columns.
    """

    sections: frozenset[str]
    top: int
    row: str
    first_row: int
    bins: int | str
    gammas: tuple[float, ...]
    group_names: tuple[str, ...]

    def note_of(self, classes: int) -> str | None:
        """Return the note on more classes of rows than the calibration has room for; None for less."""
        if "calibration" not in self.sections or (classes + 1) * int(self.bins) <= _MOST_CLASS_BINS:
            return None
        most = _MOST_CLASS_BINS // (classes + 1)
        remedy = f"; with calibration_bins={most} it has each class's, too" if most > 1 else ""
        return (
            f"the report's calibration is the top class's alone: {classes} classes in {self.bins} bins are "
            f"too many to keep each class's{remedy}"
        )

    @classmethod
    def of(
        cls, query: Mapping[str, str], loss: FakeLoss, tensors: Mapping[str, NDArray[Any]], has_classes: bool
    ) -> Self:
        """Return what a query asks for.

        Raises:
            Refused: A parameter is not as it should be, or a section's needs are not met.
        """
        gammas = _gammas(query.get("sweep"), loss)
        sections = _sections(query, loss, tensors, gammas, has_classes)
        row, bins = query.get("row", "sum"), query.get("calibration_bins", "64")
        if loss.entry.row and bins == "exact":
            raise _invalid("calibration_bins", "exact is for losses of elements")
        if row not in ("sum", "mean"):
            raise _invalid("row", "row must be sum or mean")
        return cls(
            sections | {"totals"},
            _number(query, "top", 20, 1, 10_000),
            row,
            _number(query, "first_row", 0, 0, 2**53),
            bins if bins == "exact" else _number(query, "calibration_bins", 64, 2, 4096),
            gammas,
            _group_names(query, tensors),
        )


def _sections(
    query: Mapping[str, str],
    loss: FakeLoss,
    tensors: Mapping[str, NDArray[Any]],
    gammas: Sequence[float],
    has_classes: bool,
) -> frozenset[str]:
    met: Mapping[str, bool] = {
        "classes": has_classes,
        "groups": "groups" in tensors,
        "sweep": bool(gammas),
        "paired": "baseline" in tensors,
    }
    names: Sequence[str] = query["report"].split(",")
    if list(names) == ["all"]:
        names = [name for name in SECTIONS if met.get(name, True) and name not in loss.entry.without]
    for name in names:
        if name in loss.entry.without:
            raise _invalid("report", f"the loss has no section {name}")
    for tensor, section in _USES.items():
        if section in names and section != "top" and tensor not in tensors:
            raise Refused("missing_tensor", f"the section {section} needs {tensor}", f"/{tensor}")
        if tensor in tensors and section not in names:
            raise _invalid(tensor, f"{tensor} is for the section {section}: ask for it")
    for name, section in _SECTION_OF.items():
        if name in query and section in loss.entry.without:
            raise _invalid(name, f"the loss has no section {section}")
        if name in query and section not in names:
            raise _invalid(name, f"{name} is for the section {section}: ask for it")
    for name in names:
        if name == "sweep" and not gammas and "gamma" in loss.own:
            raise _invalid("sweep", "the section sweep needs gammas: give sweep=gamma:0,1,2")
        if name not in SECTIONS or (name == "classes" and not has_classes):
            raise _invalid("report", f"the section {name} is unknown, or there are no classes")
    return frozenset([*names, "sweep"] if gammas else names)


def refuse_without_report(query: Mapping[str, str], tensors: Iterable[str]) -> None:
    """Refuse what is for a report alone.

    Raises:
        Refused: There is some of it.
    """
    for name in [
        *(name for name in PARAMS if name in query),
        *({"groups", "ids", "baseline"} & set(tensors)),
    ]:
        raise _invalid(name, f"{name} is for a report: add report=all")


def _invalid(name: str, detail: str) -> Refused:
    return Refused("invalid_parameter", detail, f"/{name}")


def _number(query: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    text = query.get(name, str(default))
    if not text.isdigit() or not low <= int(text) <= high:
        raise _invalid(name, f"{name} must be a whole number from {low} to {high}, and is {text}")
    return int(text)


def _gammas(text: str | None, loss: FakeLoss) -> tuple[float, ...]:
    if text is None:
        return ()
    name, _, values = text.partition(":")
    try:
        gammas = tuple(float(value) for value in values.split(","))
    except ValueError:
        gammas = ()
    fits = (
        name == "gamma"
        and "gamma" in loss.own
        and "sweep" not in loss.entry.without
        and 0 < len(gammas) <= 32
    )
    if not fits or not all(0 <= gamma <= 1000 for gamma in gammas):
        raise _invalid("sweep", f"sweep must be gamma:0,1,2 for focal, of at most 32 values, and is {text}")
    return gammas


def _group_names(query: Mapping[str, str], tensors: Mapping[str, NDArray[Any]]) -> tuple[str, ...]:
    if "groups" not in tensors:
        return ()
    groups = tensors["groups"]
    columns = groups.shape[1] if groups.ndim == 2 else 1
    if not 1 <= columns <= _MOST_COLUMNS:
        raise Refused("bad_shape", f"groups has {columns} columns, not 1 to {_MOST_COLUMNS}", "/groups")
    defaults = ["group"] if groups.ndim < 2 else [f"group{place}" for place in range(columns)]
    text = query.get("group_names", ",".join(defaults))
    names: list[str] = json.loads(text) if text.startswith("[") else text.split(",")
    if len(names) != columns:
        raise _invalid("group_names", f"{len(names)} group_names for {columns} columns of groups")
    return tuple(names)

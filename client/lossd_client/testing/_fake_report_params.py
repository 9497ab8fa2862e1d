"""What a request asks of a report, for `fake`."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from numpy.typing import NDArray

from lossd_client._calls import REPORT, SECTIONS
from lossd_client.testing._fake_losses import Refused

PARAMS: Final = ("report", "group_names", *(name for name in REPORT if name != "sections"))


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

    @classmethod
    def of(
        cls, query: Mapping[str, str], loss: str, tensors: Mapping[str, NDArray[Any]], has_classes: bool
    ) -> Self:
        """Return what a query asks for.

        Raises:
            Refused: A parameter is not as it should be, or a section's needs are not met.
        """
        names = query["report"].split(",")
        gammas = _gammas(query.get("sweep"), loss)
        met = {
            "classes": has_classes,
            "groups": "groups" in tensors,
            "sweep": bool(gammas),
            "paired": "baseline" in tensors,
        }
        if names == ["all"]:
            names = [name for name in SECTIONS if met.get(name, True)]
        if gammas:
            names.append("sweep")
        if loss == "bce":
            met["sweep"] = True
        for name in names:
            if name not in SECTIONS or not met.get(name, True):
                raise _invalid("report", f"the section {name} is unknown, or lacks what it needs")
        for tensor, section in (("groups", "groups"), ("ids", "top"), ("baseline", "paired")):
            if tensor in tensors and section not in names and not (tensor == "ids" and "paired" in names):
                raise _invalid("report", f"{tensor} is for the section {section}: ask for it")
        row, bins = query.get("row", "sum"), query.get("calibration_bins", "64")
        if row not in ("sum", "mean"):
            raise _invalid("row", "row must be sum or mean")
        return cls(
            frozenset(names) | {"totals"},
            _number(query, "top", 20, 1, 10_000),
            row,
            _number(query, "first_row", 0, 0, 2**53),
            bins if bins == "exact" else _number(query, "calibration_bins", 64, 2, 4096),
            gammas,
            _group_names(query, tensors),
        )


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


def _gammas(text: str | None, loss: str) -> tuple[float, ...]:
    if text is None:
        return ()
    name, _, values = text.partition(":")
    try:
        gammas = tuple(float(value) for value in values.split(","))
    except ValueError:
        gammas = ()
    fits = name == "gamma" and loss == "focal" and 0 < len(gammas) <= 32
    if not fits or not all(0 <= gamma <= 1000 for gamma in gammas):
        raise _invalid("sweep", f"sweep must be gamma:0,1,2 for focal, of at most 32 values, and is {text}")
    return gammas


def _group_names(query: Mapping[str, str], tensors: Mapping[str, NDArray[Any]]) -> tuple[str, ...]:
    if "groups" not in tensors:
        return ()
    groups = tensors["groups"]
    columns = groups.shape[1] if groups.ndim == 2 else 1
    defaults = ["group"] if groups.ndim < 2 else [f"group{place}" for place in range(columns)]
    names = query["group_names"].split(",") if "group_names" in query else defaults
    if len(names) != columns:
        raise _invalid("group_names", f"{len(names)} group_names for {columns} columns of groups")
    return tuple(names)

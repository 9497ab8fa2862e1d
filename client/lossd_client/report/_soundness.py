"""Documents whose figures contradict each other: damaged, or changed by hand."""

import math
from collections.abc import Iterable, Mapping
from numbers import Integral
from typing import Any, Final

from lossd_client._calls.values import NORMALIZERS
from lossd_client.report._json import Json
from lossd_client.report._merging.layout import BadField

_COUNTS: Final = ("rows", "rows_dropped", "elements", "dropped", "count", "nan", "infinite")
_SIGNS: Final = ("better", "worse", "equal", "undefined")
_ROUNDED: Final = ("sum", "weight_sum", "positives")


def refuse_contradictions(document: Mapping[str, Json]) -> None:
    """Refuse a document whose figures cannot all be true.

    Raises:
        BadField: A count is no whole number from 0, a sum is not what its terms say, the normalizer is none
            that there is, or the groups do not add up to the totals; the message names the place.
    """
    totals = document["totals"]
    _check_counts(totals, ("totals",))
    for name in _ROUNDED:
        if name in totals and f"{name}_terms" in totals:
            _check_rounded(name, totals[name], totals[f"{name}_terms"])
    params = totals.get("params", {})
    if not isinstance(params, Mapping):
        raise BadField(("totals", "params"), "totals.params is no JSON object")
    _check_normalizer(params.get("normalizer", "count"))
    for section in ("classes", "paired"):
        if isinstance(document.get(section), Mapping):
            _check_counts(document[section], (section,))
    groups = document.get("groups")
    if isinstance(groups, Mapping):
        _check_counts(groups, ("groups",))
        for name in (name for name in _COUNTS if name in groups):
            if not isinstance(groups[name], list):
                raise BadField(("groups", name), f"groups.{name} is no list")
            if name in totals and sum(groups[name]) != totals[name]:
                raise BadField(
                    ("groups", name),
                    f"the groups' {name} add up to {sum(groups[name])}, and totals.{name} is {totals[name]}",
                )


def _check_counts(fields: Mapping[str, Json], path: tuple[str, ...]) -> None:
    """Check the counts of a section, each a number, or a list of one for each group."""
    for name in (*_COUNTS, *_SIGNS):
        value = fields.get(name)
        if name in fields and not isinstance(value, Mapping):  # rows in paired are a part of their own
            each = value if isinstance(value, list) else [value]
            if not _are_counts(each):
                wrong = next(one for one in each if not _are_counts([one]))
                place = (*path, name)
                raise BadField(place, f"{'.'.join(place)} has {wrong!r}, and must count: 0, 1, 2...")
    for name in ("paired", "rows"):
        if isinstance(fields.get(name), Mapping):
            _check_counts(fields[name], (*path, name))


def _are_counts(numbers: Iterable[Any]) -> bool:
    kinds = set(map(type, numbers))
    if bool in kinds or not all(issubclass(kind, Integral) for kind in kinds):
        return False
    return min(numbers, default=0) >= 0


def _check_rounded(name: str, value: Json, terms: Json) -> None:
    first = terms[0] if isinstance(terms, list) and terms else None
    both_nan = all(isinstance(each, float) and math.isnan(each) for each in (value, first))
    if isinstance(value, bool) or (first != value and not both_nan):
        what = f"totals.{name} is {value!r}, and the first of totals.{name}_terms is {first!r}"
        raise BadField(("totals", name), what)


def _check_normalizer(value: Json) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if value in NORMALIZERS or (is_number and math.isfinite(value) and value > 0):
        return
    raise BadField(
        ("totals", "params", "normalizer"),
        f"totals.params.normalizer is {value!r}, and must be one of {', '.join(NORMALIZERS)} or a number "
        "above 0",
    )

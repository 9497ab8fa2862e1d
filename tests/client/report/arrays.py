"""Rows of which reports are made, and exact sums by fractions."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from fractions import Fraction
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Document = dict[str, Any]
Value: TypeAlias = Any


def terms(numbers: Iterable[float]) -> list[Any]:
    """The sum rounded, the rest rounded, and so on."""
    each = list(map(float, numbers))
    if not all(map(math.isfinite, each)):
        return [plain(sum(number for number in each if not math.isfinite(number)))]
    rest = sum(map(Fraction, each), Fraction(0))
    found: list[float] = []
    while rest or not found:
        try:
            found.append(float(rest))
        except OverflowError:
            return [plain(math.inf if rest > 0 else -math.inf)]
        rest -= Fraction(found[-1])
    return found


def plain(number: float) -> float | str:
    return (
        number if math.isfinite(number) else {"inf": "Infinity", "-inf": "-Infinity"}.get(str(number), "NaN")
    )


def planes(cells: Sequence[Iterable[float]], *shape: int) -> list[Any]:
    sums = [terms(cell) for cell in cells]
    depth = max(map(len, sums), default=1)
    padded = [each + [0.0] * (depth - len(each)) for each in sums]
    flat = np.array(padded, dtype=object).reshape(len(sums), depth).T
    found: list[Any] = flat.reshape(depth, *shape).tolist()
    return found


@dataclass(kw_only=True)
class Case:
    """Rows with everything that a report is made from; all arrays are [N, C] or [N]."""

    x: Array
    y: Array
    v: Array
    w: Array | None = None
    kept: Array | None = None
    base: Array | None = None
    base_x: Array | None = None
    cross: Array | None = None
    groups: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    ids: Sequence[Any] | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    row: str = "sum"
    first: int = 0
    k: int = 5
    bins: int | str = 8
    calibrated: bool = True
    by_class: bool = True

    def cut(self, rows: Sequence[int]) -> Self:
        """Some rows; they keep their numbers only if they are in order, without gaps."""
        picked: dict[str, Any] = {each.name: getattr(self, each.name) for each in fields(self)}
        for name in ("x", "y", "v", "w", "kept", "base", "base_x", "cross"):
            picked[name] = None if picked[name] is None else picked[name][list(rows)]
        picked["groups"] = {name: [column[row] for row in rows] for name, column in self.groups.items()}
        picked["ids"] = None if self.ids is None else [self.ids[row] for row in rows]
        picked["first"] = self.first + (rows[0] if len(rows) else 0)
        return type(self)(**picked)

    @property
    def is_kept(self) -> Array:
        return np.ones(self.x.shape, bool) if self.kept is None else self.kept

    @property
    def weights(self) -> Array:
        return np.ones(self.x.shape) if self.w is None else self.w

    @property
    def normalizer(self) -> str | float:
        found: str | float = self.params.get("normalizer", "count")
        return found

    def by_row(self, numbers: Array) -> Array:
        rows = zip(numbers, self.is_kept, strict=True)
        return np.array([float(terms(row[keep])[0]) for row, keep in rows])

    @property
    def shares(self) -> Array:
        """The rows' shares of the divisor."""
        of: dict[Any, Array] = {"count": np.ones(self.x.shape), "weight": self.weights, "positives": self.y}
        if self.normalizer in of:
            return self.by_row(of[self.normalizer])
        return np.ones(len(self.x))

    def losses(self, sums: Array) -> Array:
        return sums / np.maximum(self.is_kept.sum(axis=1), 1) if self.row == "mean" else sums


def stacked(parts: Sequence[Document], like: Document) -> Document:
    """Documents of one group each as one of lists; `like` is any such document."""
    found: Document = {}
    for name in like:
        each = [part[name] for part in parts]
        if isinstance(like[name], dict):
            found[name] = stacked(each, like[name])
        elif not parts:
            found[name] = [[]] if name.endswith("_terms") else []
        elif name.endswith("_terms"):
            depth = max(map(len, each))
            zero = 0.0 if np.ndim(each[0]) == 1 else [0.0] * len(each[0][0])
            found[name] = [[one[k] if k < len(one) else zero for one in each] for k in range(depth)]
        else:
            found[name] = each
    return found


def kind(ids: Sequence[Any]) -> str:
    return "string" if len(ids) and isinstance(ids[0], str) else "integer"


def written(each: Value) -> Value:
    return str(each) if isinstance(each, int) and abs(each) > 2**53 else each

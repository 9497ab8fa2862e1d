"""The document "lossd.report/1": the fields of every section, in order, and how each one is merged."""

from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from typing import Any, Final, TypeAlias

from lossd_client.report._json import Json

SCHEMA: Final = "lossd.report/1"


class Kind(Enum):
    """How a field of several documents becomes one."""

    SAME = "equal in all"
    SHAPE = "null where it differs"
    COUNT = "added"
    TERMS = "added exactly"
    ROUNDED = "the first of the terms of that name"
    KEYS = "united, in ascending order"
    TOP = "merged by its total order"


Fields: TypeAlias = Mapping[str, "Kind | Fields"]

_SUMS: Final[Fields] = dict.fromkeys(("sum_terms", "weight_sum_terms", "positives_terms"), Kind.TERMS)
_COUNTS: Final[Fields] = dict.fromkeys(
    ("rows", "rows_dropped", "elements", "dropped", "count", "nan", "infinite"), Kind.COUNT
)
_SQUARES: Final[Fields] = dict.fromkeys(
    ("row_squares_terms", "row_products_terms", "divisor_squares_terms", "element_squares_terms"), Kind.TERMS
)
_SIGNS: Final[Fields] = dict.fromkeys(("better", "worse", "equal", "undefined"), Kind.COUNT)
_OF_BASELINE: Final = ("baseline_squares_terms", "baseline_products_terms")
_PAIRED_ROWS: Final[Fields] = {
    **dict.fromkeys(("squares_terms", "products_terms", *_OF_BASELINE), Kind.TERMS),
    **_SIGNS,
}
_DIFFERENCES: Final[Fields] = {"baseline_sum_terms": Kind.TERMS, "squares_terms": Kind.TERMS, **_SIGNS}
_CLASSES: Final[Fields] = {"count": Kind.COUNT, **_SUMS}
_LISTS: Final[Fields] = {"rows": Kind.TOP, "elements": Kind.TOP}
_BINS: Final[Fields] = {
    "zero": Kind.COUNT,
    "infinite": Kind.COUNT,
    "nan": Kind.COUNT,
    "bins": Kind.KEYS,
    "counts": Kind.COUNT,
}
_PRODUCTS: Final[Fields] = dict.fromkeys(
    ("yy_terms", "yz_terms", "zy_terms", "zz_terms", "y_terms", "z_terms", "terms"), Kind.TERMS
)

SECTIONS: Final[Mapping[str, Fields]] = {
    "totals": {
        "loss": Kind.SAME,
        "params": Kind.SAME,
        "inputs": Kind.SAME,
        "loss_of": Kind.SAME,
        "row_shape": Kind.SHAPE,
        "weighted": Kind.SAME,
        **_COUNTS,
        "sum": Kind.ROUNDED,
        "weight_sum": Kind.ROUNDED,
        "positives": Kind.ROUNDED,
        **_SUMS,
        **_SQUARES,
    },
    "classes": _CLASSES,
    "groups": {
        "names": Kind.SAME,
        "kinds": Kind.SAME,
        "ids": Kind.KEYS,
        **_COUNTS,
        **_SUMS,
        **_SQUARES,
        "classes": _CLASSES,
        "paired": {**_DIFFERENCES, "rows": _PAIRED_ROWS},
    },
    "top": {"k": Kind.SAME, "ids": Kind.SAME, **_LISTS},
    "histogram": {
        "elements": {
            **_BINS,
            "weight_terms": Kind.TERMS,
            "zero_weight_terms": Kind.TERMS,
            "infinite_weight_terms": Kind.TERMS,
        },
        "rows": _BINS,
    },
    "calibration": {
        "bins": Kind.SAME,
        "dtype": Kind.SAME,
        "soft": Kind.COUNT,
        "undefined": Kind.COUNT,
        "values": Kind.KEYS,
        "count": Kind.COUNT,
        "positives_terms": Kind.TERMS,
        "probability_terms": Kind.TERMS,
        "brier_terms": Kind.TERMS,
        "cross_entropy_terms": Kind.TERMS,
        "classes": {"count": Kind.COUNT, "positives_terms": Kind.TERMS, "probability_terms": Kind.TERMS},
    },
    "sweep": {"gamma": Kind.SAME, **_PRODUCTS, "classes": _PRODUCTS},
    "paired": {
        **_DIFFERENCES,
        "rows": _PAIRED_ROWS,
        "classes": _DIFFERENCES,
        "top": {"worse": _LISTS, "better": _LISTS},
    },
}

PER_KEY: Final[Mapping[str, frozenset[str]]] = {
    "bins": frozenset({"counts", "weight_terms"}),
    "values": frozenset({"count", "positives_terms"}),
}
"""The fields with a number for each key, by the name of the keys; beside and below group ids all have."""

_OPTIONAL: Final = frozenset(
    {
        "element_squares_terms",
        "weight_terms",
        "zero_weight_terms",
        "infinite_weight_terms",
        "loss_of",
        "dtype",
        "values",
        "probability_terms",
        "gamma",
        *_OF_BASELINE,
        *_PRODUCTS,
        *SECTIONS,  # also within others
    }
)
"""The fields that not every document with their section has."""

LATER: Final = frozenset(_OF_BASELINE)
"""Those of them that only older versions do not write."""

Path: TypeAlias = tuple[str, ...]


class BadField(ValueError):  # noqa: N818 - it says what is wrong
    """A field of a document that is not what it must be.

    Attributes:
        path: Its place, or that of what should have it.
    """

    def __init__(self, path: Path, message: str) -> None:
        super().__init__(message)
        self.path = path


def at(document: Mapping[str, Any], path: Path) -> Any:  # noqa: ANN401 - any value of a document
    """Return the value at a place."""
    value: Any = document
    for name in path:
        value = value[name]
    return value


def leaves(document: Mapping[str, Any]) -> Iterator[tuple[Path, Kind, Any]]:
    """Yield the place, the kind and the value of every field of the sections, in order.

    Raises:
        ValueError: The document has a field that this version does not know.
    """
    _refuse_unknown((), document, ("schema", *SECTIONS, "run"))
    sections = {name: fields for name, fields in SECTIONS.items() if name in document}
    yield from _below((), sections, document)


def refuse_incomplete(values: Json, fields: Fields = SECTIONS, path: Path = ()) -> None:
    """Refuse a document that lacks a field, such as one that is cut off or of another program.

    Args:
        values: The document, or a mapping in it.
        fields: Its fields.
        path: Its place.

    Raises:
        BadField: It is no mapping, or lacks a field; the message names it.
    """
    if not isinstance(values, Mapping):
        raise BadField(path, f"{'.'.join(path) or 'it'} is no JSON object")
    for name, kind in fields.items():
        if name in values:
            if not isinstance(kind, Kind):
                refuse_incomplete(values[name], kind, (*path, name))
        elif name not in _OPTIONAL:
            raise BadField(path, f"it has no {'.'.join((*path, name))}")


def _below(path: Path, fields: Fields, values: Mapping[str, Any]) -> Iterator[tuple[Path, Kind, Any]]:
    if path:
        _refuse_unknown(path, values, fields)
    for name, kind in fields.items():
        if name not in values:
            continue
        if isinstance(kind, Kind):
            yield (*path, name), kind, values[name]
        else:
            yield from _below((*path, name), kind, values[name])


def _refuse_unknown(path: Path, values: Mapping[str, Any], known: Iterable[str]) -> None:
    for name in values:
        if name not in known:
            raise BadField(
                (*path, name),
                f"this version of lossd does not know the field {'.'.join((*path, name))!r}; a newer "
                "version wrote it, and can merge it",
            )

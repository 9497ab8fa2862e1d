"""Parameters converted to the JSON values that are sent."""

import difflib
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

import numpy as np

from lossd_client._calls.arrays import WEIGHTS, as_array, widened
from lossd_client._calls.loss import Kind, Loss
from lossd_client._calls.parameters import DEFAULT, REPORT, SECTIONS, SHARED
from lossd_client._calls.values import NORMALIZERS


def checked_report(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a report as they are sent; none if no sections are asked for.

    Raises:
        TypeError: One has the wrong type.
        ValueError: They are given although no report is asked for, or there is no such section or sweep.
    """
    asked = {name: value for name, value in given.items() if value != REPORT[name]}
    if asked.get("sections") is None:
        for name in asked:
            raise ValueError(f"{name} is for a report: ask for one, by sections='all'")
        return {}
    sections = {"report": _sections(asked.pop("sections"))}
    return sections | {name: converted(name, value) for name, value in asked.items()}


def _sections(value: str | Sequence[str]) -> str:
    names = value.split(",") if isinstance(value, str) else list(value)
    if names != ["all"]:
        for name in names:
            if name not in SECTIONS:
                near = difflib.get_close_matches(str(name), SECTIONS, n=1)
                raise ValueError(
                    f"sections: there is no {name!r}" + (f"; did you mean {near[0]!r}?" if near else "")
                )
    if not names:
        raise ValueError(f"sections: name some of {', '.join(SECTIONS)}, or say 'all'")
    return ",".join(names)


def _row(value: str) -> str:
    if value not in ("sum", "mean"):
        raise ValueError(f"must be 'sum' or 'mean', and is {value!r}")
    return value


def _bins(value: int | str) -> int | str:
    if isinstance(value, str) and value != "exact":
        raise ValueError(f"must be a number or 'exact', and is {value!r}")
    return value if isinstance(value, str) else operator.index(value)


def _sweep(value: Mapping[str, Sequence[float]]) -> str:
    if not isinstance(value, Mapping):
        raise TypeError(f'must be {{"gamma": [...]}}, and is {value!r}')
    if list(value) != ["gamma"]:
        raise ValueError(
            f'must be {{"gamma": [...]}}, and is of {", ".join(map(str, value)) or "nothing"}; alpha and '
            "pos_weight are for the report's at(...)"
        )
    return "gamma:" + ",".join(repr(float(gamma)) for gamma in value["gamma"])


def own_converted(loss: Loss, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of a loss's own parameters to send, as JSON values."""
    found = {}
    for name, parameter in loss.own.items():
        value = given.get(name, DEFAULT)
        if value is DEFAULT:
            continue
        convert = _CONVERTERS[name] if parameter.kind == "shared" else _OF_KINDS[parameter.kind]
        if parameter.kind == "numbers" and parameter.default is None:
            convert = _numbers_of_classes
        plain = _checked(name, value, convert, has_none=parameter.has_none)
        # A default of the client's own signatures is not sent; what a caller writes is.
        if plain != parameter.default or not (plain is None or parameter.kind == "shared"):
            found[name] = plain
    return found


def shared_converted(loss: Loss, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the parameters in common to send, as JSON values."""
    values = {name: converted(name, given[name]) for name in loss.shared if name in given}
    return {name: value for name, value in values.items() if value != SHARED[name]}


def converted(name: str, value: Any) -> Any:  # noqa: ANN401 - any argument in, any JSON value out
    """Return a parameter in common, or of a report, as the JSON value that is sent.

    Raises:
        TypeError: It has the wrong type; the message names it.
        ValueError: It is no number, not finite, or none of its words; likewise.
    """
    return _checked(name, value, _CONVERTERS[name], has_none=name in SHARED and SHARED[name] is None)


def _checked(name: str, value: Any, convert: Callable[[Any], object], *, has_none: bool) -> Any:  # noqa: ANN401
    if value is None and has_none:
        return None
    if name != "allow_nan" and isinstance(value, bool | np.bool_):  # 0 and 1 to Python
        raise TypeError(f"{name} must not be {value}")
    try:
        number = convert(value)
    except (TypeError, ValueError) as error:  # its text lacks the argument's name
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{name}: {error}") from error
    numbers = number if isinstance(number, list) else [number]
    if not all(math.isfinite(each) for each in numbers if isinstance(each, float)):
        raise ValueError(f"{name} must be finite, and is {value}")
    return number


def _integers(value: int | Sequence[int]) -> int | list[int]:
    if isinstance(value, Sequence):
        if any(isinstance(item, bool) for item in value):
            raise TypeError(f"must be integers, and is {value}")
        return [operator.index(item) for item in value]
    return operator.index(value)


def _numbers_of_classes(value: Any) -> float | list[float]:  # noqa: ANN401 - checked by float()
    return _numbers(value, "one number for each class")


def _numbers(
    value: Any,  # noqa: ANN401 - checked by float()
    what: str = "a number, or one for each class",
) -> float | list[float]:
    if isinstance(value, str | int | float | Decimal | np.number):
        return float(value)
    if isinstance(value, Sequence):
        if any(isinstance(item, Sequence) and not isinstance(item, str) for item in value):
            raise ValueError(f"must be {what}, and has lists in its list")
        return [float(item) for item in value]
    array = widened(as_array("the array", value, WEIGHTS))
    if array.ndim > 1:
        flat = ": give its .ravel()" if max(array.shape) == array.size else ""
        raise ValueError(f"must be {what}, and has the shape {list(array.shape)}{flat}")
    numbers: float | list[float] = array.astype(np.float64).tolist()
    return numbers


def _number_or_word(value: str | float) -> str | float:
    if isinstance(value, str) and value not in NORMALIZERS:  # the query has no other text than a number's
        raise ValueError(f"must be 'count', 'weight' or 'positives', or a number, and is {value!r}")
    return value if isinstance(value, str) else float(value)


def _number_or_nan(value: str | float) -> str | float:
    if isinstance(value, str):
        if value != "nan":
            raise ValueError(f"must be a number, 'nan' or None, and is {value!r}")
        return value
    number = float(value)
    return "nan" if math.isnan(number) else number


def _flag(value: object) -> bool:
    if not isinstance(value, bool | np.bool_):  # bool() would take "false" for true
        raise TypeError(f"must be True or False, and is {value!r}")
    return bool(value)


_CONVERTERS: Final[Mapping[str, Callable[[Any], object]]] = {
    "reduction": str,
    "axis": _integers,
    "normalizer": _number_or_word,
    "class_axis": operator.index,
    "targets_format": str,
    "background_index": operator.index,
    "label_smoothing": float,
    "ignore_index": _number_or_nan,
    "allow_nan": _flag,
    "pos_weight": _numbers,
    "top": operator.index,
    "row": _row,
    "first_row": operator.index,
    "calibration_bins": _bins,
    "sweep": _sweep,
}
_OF_KINDS: Final[Mapping[Kind, Callable[[Any], object]]] = {"number": float, "numbers": _numbers, "word": str}

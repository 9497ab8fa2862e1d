"""The parameters of a report, which every loss takes beside its own.

A request has them among its parameters only if they were given: one without a report has none of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from lossd.core import parameter_checks as checks
from lossd.core.catalog import Loss, Parameter
from lossd.core.report.spec import MOST_GROUP_COLUMNS, SECTIONS
from lossd.error_text import pointer, suggestion
from lossd.types import ErrorCode, RequestError

ALL: Final = "all"
"""Stands for every section whose needs are met."""
EXACT: Final = "exact"
"""Stands for a bin for each value of the inputs."""
MOST_GAMMAS: Final = 32
_MOST_GAMMA: Final = 1000.0
_LEAST_BINS, _MOST_BINS = 2, 4096
_MOST: Final = 2**53  # whole numbers to here are float64 numbers, as many readers of JSON have them
_MOST_NAME_BYTES: Final = 256
_CHOICES: Final = (*SECTIONS, ALL)
_WORD: Final = "(?:" + "|".join(_CHOICES) + ")"
_GAMMA: Final = "gamma"
_NUMBER: Final = re.compile(r"\s*[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?\s*", re.ASCII)


def sections(value: object) -> tuple[str, ...]:
    """Check the sections that are asked for: a list, or names separated by commas."""
    asked = _strings(value)
    for name in asked or ("",):
        if name not in _CHOICES:
            hint = suggestion(name, _CHOICES).removeprefix("; ").removesuffix("?")
            msg = f"must be {ALL}, or some of {', '.join(SECTIONS)}{f' ({hint}?)' if hint else ''}"
            raise ValueError(msg)
    return tuple(name for name in _CHOICES if name in asked)


def top(value: object) -> int:
    """Check a number of listed rows and elements; the server's settings limit it further."""
    if type(value) is not int or not 1 <= value <= _MOST:
        msg = "must be a whole number, at least 1"
        raise ValueError(msg)
    return value


def first_row(value: object) -> int:
    """Check the index of a row."""
    if type(value) is not int or not 0 <= value <= _MOST:
        msg = "must be a whole number from 0 to 2**53"
        raise ValueError(msg)
    return value


def bins(value: object) -> int | str:
    """Check the number of bins of a calibration, or `EXACT`."""
    if value == EXACT:
        return EXACT
    if type(value) is not int or not _LEAST_BINS <= value <= _MOST_BINS:
        msg = f"must be a whole number from {_LEAST_BINS} to {_MOST_BINS}, or {EXACT}"
        raise ValueError(msg)
    return value


def gammas(value: object) -> tuple[float, ...]:
    """Check the gammas of a sweep.

    They come as ``gamma:0,1``, as the list that a query makes of that, or as ``{"gamma": [0, 1]}``.
    """
    if isinstance(value, dict):
        given = value.get(_GAMMA) if value.keys() == {_GAMMA} else None
    else:
        given = _behind_name(value.split(",") if isinstance(value, str) else value)
    found = [_gamma(item) for item in given[: MOST_GAMMAS + 1]] if isinstance(given, list) else []
    numbers = tuple(number for number in found if number is not None)
    if not 0 < len(numbers) == len(found) <= MOST_GAMMAS:
        msg = f"must be gamma: and 1 to {MOST_GAMMAS} values from 0 to {_MOST_GAMMA:g}, as in gamma:0,1,1.5"
        raise ValueError(msg)
    if len(set(numbers)) < len(numbers):
        msg = "must have each gamma once"
        raise ValueError(msg)
    return numbers


def group_names(value: object) -> tuple[str, ...]:
    """Check the names of the columns of group ids."""
    names = _strings(value)
    if not 0 < len(names) <= MOST_GROUP_COLUMNS or not all(map(_is_name, names)):
        msg = f"must be 1 to {MOST_GROUP_COLUMNS} names, one for each column of groups, of up to "
        msg += f"{_MOST_NAME_BYTES} bytes"
        raise ValueError(msg)
    if len(set(names)) < len(names):
        msg = "must have each name once"
        raise ValueError(msg)
    return names


def _is_name(name: str) -> bool:
    return 0 < len(name.encode()) <= _MOST_NAME_BYTES


def _strings(value: object) -> tuple[str, ...]:
    """Return the strings of a list, or those between the commas of a string; empty if it is anything else."""
    given = value.split(",") if isinstance(value, str) else value
    if not isinstance(given, list) or not all(isinstance(item, str) for item in given):
        return ()
    return tuple(item.strip() for item in given)


def _behind_name(items: object) -> list[object] | None:
    """Return items without ``gamma:``, which stands before the first and may stand before others."""
    before = f"{_GAMMA}:"
    if not isinstance(items, list) or not str(*items[:1]).startswith(before):
        return None
    return [item.removeprefix(before) if isinstance(item, str) else item for item in items]


def _gamma(value: object) -> float | None:
    """Return a gamma, which may be text; None if it is none."""
    if isinstance(value, str):
        value = float(value) if _NUMBER.fullmatch(value) else None
    try:
        return checks.number_between(0.0, _MOST_GAMMA)(value) + 0.0  # no -0.0
    except ValueError:
        return None


_BINS: Final = {"type": "integer", "minimum": _LEAST_BINS, "maximum": _MOST_BINS}

REPORT: Final = (
    Parameter(
        "report",
        None,
        {
            "oneOf": [
                {"type": "array", "items": {"type": "string", "enum": list(_CHOICES)}, "minItems": 1},
                {"type": "string", "pattern": f"^{_WORD}(?:,{_WORD})*$"},
            ]
        },
        "The sections of the report that the answer has beside the loss: a list, or `all`.",
        sections,
    ),
    Parameter(
        "top",
        20,
        {"type": "integer", "minimum": 1},
        "How many rows and how many elements a report lists as the worst.",
        top,
    ),
    Parameter(
        "row",
        "sum",
        {"type": "string", "enum": ["sum", "mean"]},
        "What a row's loss is in a report: the sum or the mean over its elements.",
        checks.one_of("sum", "mean"),
    ),
    Parameter(
        "first_row",
        0,
        {"type": "integer", "minimum": 0, "maximum": _MOST},
        "In a report: the index of the first row, for one of several parts.",
        first_row,
    ),
    Parameter(
        "calibration_bins",
        64,
        {"oneOf": [_BINS, {"type": "string", "enum": [EXACT]}]},
        "How many bins a report's calibration has; `exact`: one for each value of float16 or bfloat16 "
        "inputs, where each element has a loss.",
        bins,
    ),
    Parameter(
        "sweep",
        None,
        {
            "oneOf": [
                {"type": "string", "pattern": r"^gamma:[0-9.eE+-]+(?:,[0-9.eE+-]+)*$"},
                {
                    "type": "object",
                    "properties": {
                        _GAMMA: {
                            "type": "array",
                            "items": {"type": "number", "minimum": 0, "maximum": _MOST_GAMMA},
                            "minItems": 1,
                            "maxItems": MOST_GAMMAS,
                        }
                    },
                    "required": [_GAMMA],
                    "additionalProperties": False,
                },
            ]
        },
        "In a report of focal: the gammas of the section `sweep`, such as `gamma:0,1,1.5`.",
        gammas,
    ),
    Parameter(
        "group_names",
        None,
        {
            "oneOf": [
                {
                    "type": "array",
                    "items": {"type": "string"},
                    "minItems": 1,
                    "maxItems": MOST_GROUP_COLUMNS,
                },
                {"type": "string"},
            ]
        },
        "In a report: a name for each column of `groups`; else it is `group`, or they are `group0` and so "
        "on.",
        group_names,
    ),
)
"""The parameters of a report."""

REPORT_BY_NAME: Final[Mapping[str, Parameter]] = {parameter.name: parameter for parameter in REPORT}
_OTHERS: Final = REPORT_BY_NAME.keys() - {"report"}
_SECTIONS: Final = {"top": "top", "calibration_bins": "calibration", "group_names": "groups"}
"""The parameters that one section alone uses."""


_ROW_BINS: Final = Parameter("calibration_bins", 64, _BINS, "How many bins a report's calibration has.", bins)
"""For probabilities that follow from whole rows: there are more of them than an input has values."""


def report_parameters(loss: Loss) -> tuple[Parameter, ...]:
    """Return the parameters of a loss's report: not those of sections that it does not have."""
    sections = _SECTIONS | {"sweep": "sweep"}
    had = (one for one in REPORT if sections.get(one.name) not in loss.without)
    return tuple(_ROW_BINS if loss.row and one.name == _ROW_BINS.name else one for one in had)


def check_report(loss: Loss, params: Mapping[str, object]) -> None:
    """Check that the parameters of a report go together, and with the loss.

    Args:
        loss: The loss.
        params: Checked parameters, of query and body together.

    Raises:
        RequestError: ``invalid_parameter``.
    """
    asked = params.get("report")
    if asked is None:
        if not _OTHERS.isdisjoint(params):
            _refuse_alone(loss, params)
        return
    assert isinstance(asked, tuple)
    if params.get("per", "sample") != "sample":
        detail = f"per={params['per']} gives a loss to parts of all samples, whose rows a report cannot tell "
        remedy = "take per=sample, whose mean is another number, or leave report out"
        raise _invalid("per", f"{detail}apart; {remedy}")
    _refuse_missing(loss, asked)
    _refuse_unused(loss, params, asked)
    if loss.row and params.get("calibration_bins") == EXACT:
        detail = (
            f"calibration_bins=exact is not for {loss.name}, whose probabilities follow from whole rows; "
        )
        raise _invalid("calibration_bins", detail + "give a number of bins")
    sweep = params.get("sweep")
    if sweep is None and "sweep" not in asked:
        return
    has_gamma = any(parameter.name == _GAMMA for parameter in loss.parameters)
    if "sweep" in loss.without:
        raise _invalid("sweep", f"{loss.name} has no section sweep; {_remedy(loss, 'sweep')}")
    if sweep is not None and not has_gamma:
        detail = f"{loss.name} has no gamma; leave sweep out and ask for report=sweep, from whose sums every "
        raise _invalid("sweep", detail + "pos_weight follows")
    if sweep is None and has_gamma:
        raise _invalid("sweep", "the section sweep needs the gammas; add them, as in sweep=gamma:0,1,2")


def _refuse_alone(loss: Loss, params: Mapping[str, object]) -> None:
    """Refuse parameters of a report without one."""
    had = {parameter.name for parameter in report_parameters(loss)}
    for name in params:
        if name in _OTHERS - had:
            raise _invalid(name, f"{loss.name} has no report with {name}; leave {name} out")
        if name in _OTHERS:
            detail = f"{name} goes with a report; add report={ALL} or its sections, or leave {name} out"
            raise _invalid(name, detail)


def _refuse_missing(loss: Loss, asked: tuple[str, ...]) -> None:
    """Refuse sections that the loss does not have."""
    for section in asked:
        if section in loss.without:
            raise _invalid("report", f"{loss.name} has no section {section}; {_remedy(loss, section)}")


def _remedy(loss: Loss, section: str) -> str:
    """Return what to do about a section that a loss does not have."""
    match section, loss.row:
        case "sweep", _:
            return "bce and focal have it; leave sweep out"
        case "classes", "sample":
            detail = "per=class with reduction=none answers a loss for each class, without a report; "
            return detail + "leave classes out of report"
        case "classes", "box":
            return "send the boxes' class ids as groups and ask for groups; leave classes out of report"
        case "calibration", "sample":
            return "bce has that of the same logits and targets; leave calibration out of report"
        case _:
            return f"leave {section} out of report"


def _refuse_unused(loss: Loss, params: Mapping[str, object], asked: tuple[str, ...]) -> None:
    """Refuse parameters of sections that are not asked for, or that the loss does not have."""
    for name, section in _SECTIONS.items():
        if name in params and section in loss.without:
            raise _invalid(name, f"{loss.name} has no section {section}; leave {name} out")
        if name in params and section not in asked and ALL not in asked:
            detail = f"{name} is for the section {section}; add {section} to report, or leave {name} out"
            raise _invalid(name, detail)


def _invalid(name: str, detail: str) -> RequestError:
    return RequestError(ErrorCode.INVALID_PARAMETER, detail, [(pointer(name), detail)])

"""The compiled C code: its structures and functions, by ctypes."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from lossd.types import MAX_DIMENSIONS

LIBRARY: Final = Path(__file__).with_name("_kernel.so")
WIDTHS: Final = ("avx512", "avx2", "sse2", "neon")
"""Vector instructions that there is a build for, widest first."""
MOST_OWN: Final = 8
"""Most parameters of a loss's own."""


class Formula(ctypes.Structure):
    """The loss, kernel.h's ``formula``."""

    _fields_ = (
        ("loss", ctypes.c_int32),
        ("probabilities", ctypes.c_int32),
        ("variant", ctypes.c_int32),
        ("balanced", ctypes.c_int32),
        ("gamma", ctypes.c_double),
        ("alpha", ctypes.c_double),
        ("smoothing", ctypes.c_double),
        ("own", ctypes.c_double * MOST_OWN),
    )


class Tensor(ctypes.Structure):
    """A tensor, as strides over the request's axes."""

    _fields_ = (
        ("offset", ctypes.c_int64),
        ("length", ctypes.c_int64 * MAX_DIMENSIONS),
        ("stride", ctypes.c_int64 * MAX_DIMENSIONS),
        ("axes", ctypes.c_int32),
        ("dtype", ctypes.c_int32),
        ("swapped", ctypes.c_int32),
        ("padding", ctypes.c_int32),
    )


class Job(ctypes.Structure):
    """A request, kernel.h's ``job``."""

    _fields_ = (
        ("formula", Formula),
        ("inputs", Tensor),
        ("targets", Tensor),
        ("weight", Tensor),
        ("pos_weight", Tensor),
        ("alpha", Tensor),
        ("mask", Tensor),
        ("baseline", Tensor),
        ("class_weight", Tensor),
        ("row_size", ctypes.c_int64),
        ("class_inner", ctypes.c_int64),
        ("classes", ctypes.c_int64),
        ("target_rule", ctypes.c_int32),
        ("ids_by_row", ctypes.c_int32),
        ("ignored", ctypes.c_double),
        ("background", ctypes.c_double),
        ("ignores", ctypes.c_int32),
        ("has_background", ctypes.c_int32),
        ("allow_nan", ctypes.c_int32),
        ("divisor", ctypes.c_int32),
    )


class Part(ctypes.Structure):
    """A part of a request, kernel.h's ``part``."""

    _fields_ = (
        ("start", ctypes.c_int64),
        ("stop", ctypes.c_int64),
        ("length", ctypes.c_int64 * MAX_DIMENSIONS),
        ("reduced", ctypes.c_int32 * MAX_DIMENSIONS),
        ("axes", ctypes.c_int32),
        ("elementwise", ctypes.c_int32),
        ("rounded", ctypes.c_int32),
        ("capacity", ctypes.c_int32),
        ("outputs", ctypes.c_int64),
        ("memory", ctypes.c_void_p * 2),
        ("given", ctypes.c_void_p * 2),
        ("report", ctypes.c_void_p),
        ("report_bytes", ctypes.c_int64),
    )


class Column(ctypes.Structure):
    """A whole number for each row, kernel.h's ``column``."""

    _fields_ = (
        ("offset", ctypes.c_int64),
        ("stride", ctypes.c_int64),
        ("size", ctypes.c_int32),
        ("is_signed", ctypes.c_int32),
        ("swapped", ctypes.c_int32),
        ("padding", ctypes.c_int32),
    )


GROUP_SUMS: Final = (
    *("sum", "positives", "row_squares", "row_products", "divisor_squares", "weight", "element_squares"),
    *("baseline", "pair_squares", "pair_row_squares", "pair_row_products"),
    *("baseline_row_squares", "baseline_row_products"),
    *("class_sum", "class_positives", "class_weight"),
)
GROUP_COUNTS: Final = (
    *("rows", "rows_dropped", "count", "nan", "infinite", "pair_elements", "pair_rows", "class_count"),
)
SUMS: Final = (
    *("row_squares", "row_products", "divisor_squares", "element_squares", "brier", "cross_entropy"),
    *("baseline", "pair_squares", "pair_row_squares", "pair_row_products"),
    *("baseline_row_squares", "baseline_row_products", "sweep"),
    *("class_sum", "class_positives", "class_weight", "class_baseline", "class_pair_squares"),
    *("histogram_weight", "bin_positives", "bin_probability"),
)
COUNTS: Final = (
    *("rows_dropped", "nan", "infinite", "class_count", "class_pairs"),
    *("histogram_elements", "histogram_rows", "soft", "undefined", "bin_count", "pair_elements", "pair_rows"),
)


class GroupIndices(ctypes.Structure):
    """Where the figures of a group are, kernel.h's ``group_indices``."""

    _fields_ = tuple((name, ctypes.c_int64) for name in (*GROUP_SUMS, *GROUP_COUNTS))


class Indices(ctypes.Structure):
    """Where figures over all rows are, kernel.h's ``indices``."""

    _fields_ = tuple((name, ctypes.c_int64) for name in (*SUMS, *COUNTS))


class Report(ctypes.Structure):
    """What a report is to hold, kernel.h's ``report``."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("row_size", "classes", "class_inner")),
        *((f"calibration_{name}", ctypes.c_int64) for name in ("classes", "inner", "cells")),
        *((name, ctypes.c_int64) for name in ("sums", "single_sums", "counts", "group_sums", "group_counts")),
        ("at", Indices),
        ("group_at", GroupIndices),
        ("gamma", ctypes.c_double * 32),
        ("groups", Column * 8),
        ("ids", Column),
        *((name, ctypes.c_int32) for name in ("gammas", "columns", "bins", "exact")),
        *((name, ctypes.c_int32) for name in ("top", "has_ids", "ids_unsigned", "paired")),
        *((name, ctypes.c_int32) for name in ("weighted", "row_mean", "share", "by_target")),
    )


def why_missing() -> str | None:
    """Return why the native kernel is missing; None if it is not."""
    try:
        scoring_function(best_width())
    except OSError as error:
        return str(error)
    return None


@cache
def best_width() -> str:
    """Return the widest vector instructions that this CPU has and there is a build for."""
    return WIDTHS[library().lossd_best_width()]


@cache
def library() -> ctypes.CDLL:
    """Load the library.

    Raises:
        OSError: It was not compiled.
    """
    if not LIBRARY.exists():
        msg = "the C code was not compiled when lossd was installed; install a wheel, or a C compiler first"
        raise OSError(msg)
    found = ctypes.CDLL(os.fspath(LIBRARY))
    pointer, long, number = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
    found.lossd_add_numbers.argtypes = (pointer, long, number, number, pointer)
    found.lossd_add_at.argtypes = (pointer, long, pointer, number, long, pointer, pointer)
    found.lossd_add_at.restype = long
    found.lossd_make_canonical.argtypes = (pointer, long, number, number)
    found.lossd_loss_name.argtypes = (number,)
    found.lossd_loss_name.restype = ctypes.c_char_p
    return found


@cache
def loss_numbers() -> Mapping[str, int]:
    """Return the number of each loss that the library has, by its name."""
    found: dict[str, int] = {}
    while name := library().lossd_loss_name(len(found)):
        found[name.decode()] = len(found)
    return found


def other_loss() -> int:
    """Return the number of a loss that an operator adds: its elements are given."""
    return len(loss_numbers())


@cache
def scoring_function(width: str) -> Any:  # noqa: ANN401 -- ctypes has no type for it
    """Return the function that scores a part with some vector instructions.

    Raises:
        OSError: It was not compiled, or not for these.
    """
    try:
        function = getattr(library(), f"lossd_score_{width}")
    except AttributeError:
        msg = f"there is no build for {width} instructions"
        raise OSError(msg) from None
    pointer = ctypes.c_void_p
    function.argtypes = (
        ctypes.POINTER(Job),
        ctypes.POINTER(Report),
        ctypes.POINTER(Part),
        pointer,
        ctypes.c_int64,
        ctypes.c_int,
        pointer,
    )
    function.restype = None
    return function

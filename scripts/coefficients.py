#!/usr/bin/env python3
"""Derive the polynomials of the losses' exp, log and arctangent, and check those in the sources.

``coefficients.py`` prints them, for C and for Python. ``coefficients.py --check`` compares them with the
sources in service/lossd/core, native and losses, and prints a proven bound of each one's error over its whole
interval.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from mpmath import (  # type: ignore[import-untyped] # it has none
    atan,
    cos,
    exp,
    factorial,
    log,
    lu_solve,
    matrix,
    mp,
    mpf,
    pi,
    polyval,
    sqrt,
)

mp.dps = 50

_SERVICE: Final = Path(__file__).parent.parent / "service" / "lossd" / "core"
_TERMS: Final = 60
"""Terms of the functions' power series, which make them exact to more than 40 digits."""


class Polynomial(NamedTuple):
    """A polynomial to derive.

    Attributes:
        name: Its name in the sources.
        what: Its formula and interval, in words.
        series: The coefficient of each power in the power series of its function.
        low: The lower end of its interval.
        high: The upper end of its interval.
        terms: The number of its coefficients.
        share: The greatest factor of its error in the relative error of the function computed with it.
        sources: Where it is, in native and in losses.
    """

    name: str
    what: str
    series: Callable[[int], Any]
    low: Any
    high: Any
    terms: int
    share: Any
    sources: tuple[str, str] = ("elements.h", "exp_log.py")


_HALF_LN2: Final = log(2) / 2 * (1 + mpf(2) ** -40)
_WIDE: Final = mpf(1) / 9 * (1 + mpf(2) ** -14)
"""A little wider than needed, so that the well-known log(2) is correctly rounded."""
_NARROW: Final = ((sqrt(2) - 1) / (sqrt(2) + 1)) ** 2 * (1 + mpf(2) ** -40)
_EIGHTH: Final = sqrt(2) - 1 + mpf(2) ** -40
"""tan(pi / 8), and a little."""

POLYNOMIALS: Final = (
    Polynomial(
        "EXP_TAIL",
        "(exp(r) - 1 - r - r^2 / 2) / r^3 for |r| <= ln(2) / 2",
        lambda k: 1 / factorial(k + 3),
        -_HALF_LN2,
        _HALF_LN2,
        10,
        _HALF_LN2**3 * exp(_HALF_LN2),
    ),
    Polynomial(
        "LOG_TAIL",
        "(2 atanh(f) - 2 f) / f^3 in w = f^2, for |f| <= 1/3",
        lambda k: mpf(2) / (2 * k + 3),
        mpf(0),
        _WIDE,
        10,
        _WIDE / 2,
    ),
    Polynomial(
        "FINE_LOG_TAIL",
        "the same for |f| <= (sqrt(2) - 1) / (sqrt(2) + 1)",
        lambda k: mpf(2) / (2 * k + 3),
        mpf(0),
        _NARROW,
        8,
        _NARROW / 2,
    ),
    Polynomial(
        "ATAN_TAIL",
        "(atan(z) - z) / z^3 in w = z^2, for |z| <= tan(pi / 8)",
        lambda k: mpf((-1) ** (k + 1)) / (2 * k + 3),
        mpf(0),
        _EIGHTH**2,
        12,
        _EIGHTH**3 / atan(_EIGHTH),
        ("arctangent.h", "arctangent.py"),
    ),
)


def remez(wanted: Polynomial) -> list[float]:
    """Find the polynomial of least greatest error: coefficients as float64, lowest power first."""
    series = [wanted.series(k) for k in range(_TERMS)]
    middle, radius = (wanted.low + wanted.high) / 2, (wanted.high - wanted.low) / 2
    size = wanted.terms + 1
    points = [middle - radius * cos(pi * i / (size - 1)) for i in range(size)]
    coefficients: list[Any] = []
    for _ in range(5):
        rows = [[*(x**k for k in range(wanted.terms)), (-1) ** i] for i, x in enumerate(points)]
        solved = list(lu_solve(matrix(rows), matrix([polyval(series[::-1], x) for x in points])))
        coefficients = solved[:-1]
        points = _extrema(_difference(series, coefficients), wanted, size)
    return [float(c) for c in coefficients]


def _difference(series: Sequence[Any], coefficients: Sequence[Any]) -> list[Any]:
    """Return the polynomial's error, as a polynomial."""
    return [a - (coefficients[k] if k < len(coefficients) else 0) for k, a in enumerate(series)]


def _extrema(error: Sequence[Any], wanted: Polynomial, size: int) -> list[Any]:
    """Find the points where the error is greatest, between each two of its zeros."""
    fine = 16 * size
    middle, radius = (wanted.low + wanted.high) / 2, (wanted.high - wanted.low) / 2
    grid = [middle - radius * cos(pi * i / fine) for i in range(fine + 1)]
    values = [polyval(error[::-1], x) for x in grid]
    runs: list[int] = []
    for i, value in enumerate(values):
        if runs and (value > 0) == (values[runs[-1]] > 0):
            if abs(value) > abs(values[runs[-1]]):
                runs[-1] = i
        else:
            runs.append(i)
    if len(runs) != size:
        msg = f"{wanted.name}: the error alternates {len(runs)} times, not {size}"
        raise ArithmeticError(msg)
    return [grid[i] for i in runs]


def bound(wanted: Polynomial, coefficients: Sequence[float]) -> Any:  # noqa: ANN401 -- mpmath has no types
    """Return a proven bound of the relative error that the polynomial adds to its function.

    The function's power series is practically exact, so the error is a polynomial. A polynomial lies between
    the least and the greatest of its Bernstein coefficients.
    """
    error = _difference([wanted.series(k) for k in range(_TERMS)], [mpf(c) for c in coefficients])
    degree, intervals, worst = _TERMS - 1, 16, mpf(0)
    width = (wanted.high - wanted.low) / intervals
    for i in range(intervals):
        low = wanted.low + width * i
        powers = [low**k for k in range(_TERMS)]
        shifted = [
            sum(error[j] * math.comb(j, k) * powers[j - k] for j in range(k, _TERMS)) * width**k
            for k in range(_TERMS)
        ]
        for k in range(_TERMS):
            terms = (shifted[j] * math.comb(k, j) / math.comb(degree, j) for j in range(k + 1))
            worst = max(worst, abs(sum(terms)))
    return worst * wanted.share


def in_source(text: str, name: str) -> list[float]:
    """Return the coefficients of a polynomial in a source file."""
    found = re.search(rf"\b(?:LOSSD)?_{name}\b[^=\n]*= *\w*[{{(]([^)}}]*)[)}}]", text)
    if found is None:
        return []
    return [float.fromhex(number) for number in re.findall(r"-?0x[0-9a-f.]+p[-+]?\d+", found[1])]


def main() -> int:
    """Print the polynomials, or check those in the sources."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--check", action="store_true", help="compare with the sources, and print the errors")
    check, right, lines = parser.parse_args().check, True, list[str]()
    for wanted in POLYNOMIALS:
        coefficients = remez(wanted)
        error = math.ceil(float(log(bound(wanted, coefficients), 2)) * 10) / 10
        lines.append(f"{wanted.name}: {wanted.what}; error below 2^{error}, relative")
        if not check:
            numbers = [c.hex() for c in coefficients]
            lines.append(
                f"static const double LOSSD_{wanted.name}[{wanted.terms}] = {{{', '.join(numbers)}}};"
            )
            lines.append(f"_{wanted.name}: Final = hexadecimal({', '.join(map(repr, numbers))})")
            continue
        native, losses = wanted.sources
        for path in (_SERVICE / "native" / native, _SERVICE / "losses" / losses):
            if in_source(path.read_text(), wanted.name) != coefficients:
                lines.append(f"  {path} has others")
                right = False
    sys.stdout.write("\n".join(lines) + "\n")
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())

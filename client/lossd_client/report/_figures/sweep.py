"""The loss at other parameters, from sums that it is linear in."""

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lossd_client._calls.parameters import Default
from lossd_client._exact_sum import ExactSum
from lossd_client.report._figures.block import Block
from lossd_client.report._figures.stderr import as_fraction, rounded

Given: TypeAlias = float | Sequence[float] | Default | None


class Sweep:
    """The sums from which the loss at any alpha and pos_weight, and at some gammas, follows.

    Args:
        block: The section.
        params: The parameters of the request.
    """

    def __init__(self, block: Block, params: Mapping[str, Any]) -> None:
        self._block = block
        self._params = params

    @property
    def gammas(self) -> tuple[float, ...]:
        """The gammas that there are; none for bce, which has no gamma."""
        return tuple(map(float, self._block["gamma"])) if "gamma" in self._block else ()

    def sum_at(self, alpha: Given, pos_weight: Given, gamma: float | Default) -> float:
        """Return the sum of the losses at these parameters, rounded once; those not given are the request's.

        Raises:
            TypeError: The loss has no such parameter.
            ValueError: There are no sums for one of them; the message names those that there are.
            MissingSectionError: A list has one number for each class, and there are no sums by class.
        """
        if not self.gammas and not (isinstance(alpha, Default) and isinstance(gamma, Default)):
            raise TypeError("bce has no alpha and no gamma; at() takes its pos_weight")
        place = self._place(gamma)
        alphas = self._alphas(alpha) if self.gammas else [None]
        weights = self._pos_weights(pos_weight)
        if len(alphas) == len(weights) == 1:
            sums = {name: _at(self._block.terms(name), place)[:, None] for name in self._names()}
        else:
            block = self._block.block("classes", "in sweep, as a list for alpha or pos_weight needs them")
            sums = {name: _at(block.terms(name), place) for name in self._names()}
        return _combined(sums, alphas, weights)

    def _names(self) -> list[str]:
        return [name.removesuffix("_terms") for name in self._block.fields if name.endswith("terms")]

    def _place(self, gamma: float | Default) -> int | None:
        """Return the place of a gamma along the axis of gammas, if there is one."""
        if not self.gammas:
            return None
        wanted = self._params["gamma"] if isinstance(gamma, Default) else gamma
        if wanted not in self.gammas:
            there_are = ", ".join(map(repr, self.gammas))
            raise ValueError(
                f"the sweep has no gamma {wanted!r}; it has {there_are}. Name one of them, or ask for a "
                "report with a sweep that has it"
            )
        return self.gammas.index(wanted)

    def _alphas(self, given: Given) -> list[Fraction] | list[None]:
        value = self._params["alpha"] if isinstance(given, Default) else given
        if value is None:
            return [None]
        numbers = _numbers("alpha", value)
        if max(numbers) > 1:
            raise ValueError(f"alpha is from 0 to 1, and is {value}")
        return numbers

    def _pos_weights(self, given: Given) -> list[Fraction]:
        requested = self._params.get("pos_weight")
        if "terms" not in self._block:
            return _numbers("pos_weight", requested if isinstance(given, Default) else given)
        if not isinstance(given, Default) and _numbers("pos_weight", given) != _numbers(
            "pos_weight", requested
        ):
            raise ValueError(
                "variant='exp' is not linear in pos_weight: the sums are at the request's alone, "
                f"{requested!r}; ask for a report at another one"
            )
        return [Fraction(1)]


def _numbers(name: str, value: Any) -> list[Fraction]:  # noqa: ANN401 - checked here
    """Return a number, or one for each class, as fractions; None is 1."""
    if isinstance(value, Mapping) or np.ndim(value) > 1:
        raise ValueError(
            f"the report does not have the request's {name} as a number, or as one for each class; give at() "
            f"its {name} so"
        )
    numbers = np.atleast_1d(np.asarray(1.0 if value is None else value, dtype=np.float64)).tolist()
    if not numbers or not all(math.isfinite(number) and number >= 0 for number in numbers):
        raise ValueError(
            f"{name} is a number that is finite and at least 0, or one for each class, and is {value}"
        )
    return list(map(Fraction, numbers))


def _at(terms: NDArray[np.float64], gamma: int | None) -> NDArray[np.float64]:
    return terms if gamma is None else terms[:, gamma]


def _combined(
    sums: Mapping[str, NDArray[np.float64]], alphas: Sequence[Fraction | None], weights: Sequence[Fraction]
) -> float:
    """Return the sum of sums, [k, C], times their factors, rounded once."""
    classes = next(iter(sums.values())).shape[1]
    for name, numbers in (("alpha", alphas), ("pos_weight", weights)):
        if len(numbers) not in (1, classes):
            raise ValueError(f"{name} has {len(numbers)} numbers, and there are {classes} classes")
    total, special = Fraction(0), 0.0
    for place in range(classes):
        factors = _factors(alphas[place % len(alphas)], weights[place % len(weights)])
        for name, terms in sums.items():
            exact = ExactSum(terms[:, place].tolist())
            if math.isnan(exact.special) or (exact.special and factors[name]):
                special += exact.special
            total += factors[name] * as_fraction(exact)
    return special or rounded(total)


def _factors(alpha: Fraction | None, pos_weight: Fraction) -> dict[str, Fraction]:
    """Return what each sum is multiplied with.

    The first letter of a focal sum is the target's factor in alpha, the second its factor in the cross
    entropy: y counts positives, z negatives.
    """
    positive, negative = (Fraction(1), Fraction(1)) if alpha is None else (alpha, 1 - alpha)
    return {
        "yy": positive * pos_weight,
        "yz": positive,
        "zy": negative * pos_weight,
        "zz": negative,
        "y": pos_weight,
        "z": Fraction(1),
        "terms": positive,
    }

"""Curves and areas of a score that tells positives from negatives, from counts by score."""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Final, NamedTuple


class Threshold(NamedTuple):
    """What becomes of calling an element positive if its probability is at least `threshold`."""

    threshold: float
    precision: float
    recall: float
    f1: float
    true_positives: float
    false_positives: float


class RocPoint(NamedTuple):
    """A point of the ROC curve: of probabilities of at least `threshold`."""

    threshold: float
    false_positive_rate: float
    true_positive_rate: float


class PrecisionRecallPoint(NamedTuple):
    """A point of the precision-recall curve: of probabilities of at least `threshold`."""

    threshold: float
    precision: float
    recall: float


class Area(NamedTuple):
    """An area under a curve, and the least and the greatest that it may be."""

    value: float
    lower: float
    upper: float


class Scores:
    """Positives and negatives by score, from the least score to the greatest.

    Args:
        thresholds: The least probability of each score.
        positives: How many elements with each score are positive.
        negatives: How many are not.
        exact: Whether elements of one score tie; else they are of one bin, in an order that is not known.
    """

    def __init__(
        self,
        thresholds: Sequence[float],
        positives: Sequence[float],
        negatives: Sequence[float],
        *,
        exact: bool,
    ) -> None:
        self._exact = exact
        self._all = list(zip(thresholds, positives, negatives, strict=True))[::-1]
        self._used = [each for each in self._all if each[1] or each[2]]
        self.positives = math.fsum(positives)
        self.negatives = math.fsum(negatives)

    def thresholds(self) -> list[Threshold]:
        """Return precision, recall and F1 at each threshold, ascending."""
        found = []
        true = false = 0.0
        for threshold, positives, negatives in self._all:
            true, false = true + positives, false + negatives
            f1 = _ratio(2 * true, true + false + self.positives)
            found.append(
                Threshold(
                    threshold, _ratio(true, true + false), _ratio(true, self.positives), f1, true, false
                )
            )
        return found[::-1]

    def roc(self) -> list[RocPoint]:
        """Return the ROC curve, from (0, 0) to (1, 1)."""
        found = [RocPoint(math.inf, 0.0, 0.0)]
        true = false = 0.0
        for threshold, positives, negatives in self._used:
            true, false = true + positives, false + negatives
            found.append(RocPoint(threshold, _ratio(false, self.negatives), _ratio(true, self.positives)))
        return found

    def precision_recall(self) -> list[PrecisionRecallPoint]:
        """Return the precision-recall curve, by ascending recall."""
        found = []
        true = false = 0.0
        for threshold, positives, negatives in self._used:
            true, false = true + positives, false + negatives
            found.append(
                PrecisionRecallPoint(threshold, _ratio(true, true + false), _ratio(true, self.positives))
            )
        return found

    def auroc(self) -> Area:
        """Return the area under the ROC curve; ties count half. NaN without positives or negatives.

        In a bin the least is that all its negatives are above its positives, the greatest the contrary.
        """
        if not self.positives or not self.negatives:
            return Area(math.nan, math.nan, math.nan)
        above = won = tied = 0
        for _, positives, negatives in self._used:
            won += int(negatives) * above
            tied += int(positives) * int(negatives)
            above += int(positives)
        pairs = 2 * int(self.positives) * int(self.negatives)
        least, value, most = (float(Fraction(2 * won + share * tied, pairs)) for share in (0, 1, 2))
        return Area(value, value, value) if self._exact else Area(value, least, most)

    def average_precision(self) -> Area:
        """Return the sum of precision times gain in recall, as scikit-learn has it. NaN without positives.

        In a bin the greatest is that all its positives tie above its negatives, the least that its negatives
        are above its positives, which do not tie.
        """
        if not self.positives:
            return Area(math.nan, math.nan, math.nan)
        values, least, most = [], [], []
        true = false = 0.0
        for _, positives, negatives in self._used:
            if positives:
                values.append(positives * _ratio(true + positives, true + false + positives + negatives))
                most.append(positives * _ratio(true + positives, true + false + positives))
                least.append(_one_by_one(true, false + negatives, int(positives)))
            true, false = true + positives, false + negatives
        value, low, high = (min(1.0, math.fsum(each) / self.positives) for each in (values, least, most))
        return Area(value, value, value) if self._exact else Area(value, min(low, value), max(high, value))


def _ratio(a: float, b: float) -> float:
    return a / b if b else math.nan


_SUMMED: Final = 64  # what follows is approximated, to 1e-15


def _one_by_one(true: float, false: float, more: int) -> float:
    """Return the sum of precisions at `more` positives one after another: (true + i) / (true + false + i)."""
    first = true + false
    direct = more if more <= 4 * _SUMMED else max(0, _SUMMED - max(0, int(first)))
    summed = math.fsum((true + i) / (first + i) for i in range(1, direct + 1))
    if direct == more:
        return summed
    # The rest is the sum of 1 - false / (first + i), and that of 1 / (first + i) is by Euler and Maclaurin.
    a, b = first + direct, first + more
    harmonic = math.log1p((b - a) / a) + (1 / b - 1 / a) / 2 - (b**-2 - a**-2) / 12 + (b**-4 - a**-4) / 120
    return summed + (more - direct) - false * harmonic

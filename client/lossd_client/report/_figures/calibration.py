"""How well probabilities agree with targets."""

import math
from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import Any, Final, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from lossd_client.report._figures.block import Block
from lossd_client.report._figures.curves import Area, PrecisionRecallPoint, RocPoint, Scores, Threshold
from lossd_client.report._figures.figures import class_place, worst_first

_BINS_OF_VALUES: Final = 64
_FEWER_BINS: Final = "; calibration_bins must be a number, and classes times bins at most 262,144"

Floats = NDArray[np.float64]


class ReliabilityBin(NamedTuple):
    """The elements whose probability is from `lower` to `upper`.

    Attributes:
        lower: The least probability of the bin.
        upper: The least of the next one.
        count: The number of elements.
        probability: Their mean probability; NaN in an empty bin.
        rate: The share of positives among them; NaN in an empty bin.
    """

    lower: float
    upper: float
    count: int  # type: ignore[assignment] # a tuple's own method of that name is of no use here
    probability: float
    rate: float


class ScoreBins:
    """How probabilities agree with targets, from sums by bins of probability.

    Elements are not weighted here, and targets are as sent, before smoothing.

    Args:
        count: The number of elements of each bin, [B].
        positives: The terms of their targets' sums, [k, B].
        probabilities: The terms of their probabilities' sums, [k, B].
        scores: Positives and negatives by score.
        soft: How many targets of the whole report are neither 0 nor 1.
    """

    def __init__(
        self, count: NDArray[np.int64], positives: Floats, probabilities: Floats, scores: Scores, soft: int
    ) -> None:
        self._count = count
        self._positives = positives
        self._probabilities = probabilities
        self._scores = scores
        self.soft = soft

    @property
    def count(self) -> int:
        """The number of elements."""
        return int(self._count.sum())

    @property
    def positives(self) -> float:
        """Their targets summed."""
        return self._scores.positives

    @property
    def ece(self) -> float:
        """The expected calibration error: the mean distance of probability and rate, by bins."""
        return math.fsum(map(abs, self._gaps())) / self.count if self.count else math.nan

    @property
    def mce(self) -> float:
        """The greatest distance of probability and rate in a bin."""
        gaps = (
            abs(gap) / count for gap, count in zip(self._gaps(), self._count.tolist(), strict=True) if count
        )
        return max(gaps, default=math.nan)

    def _gaps(self) -> list[float]:
        """Return the sum of probability minus target in each bin."""
        return list(map(math.fsum, np.concatenate([self._probabilities, -self._positives]).T.tolist()))

    def reliability(self) -> list[ReliabilityBin]:
        """Return the bins of a reliability diagram, ascending.

        With `calibration_bins=exact` there are 64.
        """
        edges = bin_edges(len(self._count))
        found = []
        for i, count in enumerate(self._count.tolist()):
            means = [
                math.fsum(sums[:, i].tolist()) / count if count else math.nan
                for sums in (self._probabilities, self._positives)
            ]
            found.append(ReliabilityBin(edges[i], edges[i + 1], count, *means))
        return found

    def thresholds(self) -> list[Threshold]:
        """Return precision, recall and F1 at each bin's least probability, ascending.

        They are exact: no bin is cut. Soft targets count as the share that they are. With
        `calibration_bins=exact` every score that occurs is a threshold.
        """
        return self._scores.thresholds()

    def roc(self) -> list[RocPoint]:
        """Return the ROC curve at the thresholds, from (0, 0) to (1, 1); between them it is not known.

        Raises:
            ValueError: There are soft targets.
        """
        return self._hard("the ROC curve").roc()

    def precision_recall(self) -> list[PrecisionRecallPoint]:
        """Return the precision-recall curve at the thresholds, by ascending recall.

        Raises:
            ValueError: There are soft targets.
        """
        return self._hard("the precision-recall curve").precision_recall()

    @property
    def auroc(self) -> float:
        """The area under the ROC curve; elements of one bin, as of one score, count half.

        Raises:
            ValueError: There are soft targets.
        """
        return self._auroc.value

    @property
    def auroc_bounds(self) -> tuple[float, float]:
        """The least and the greatest that it may be, by the order within bins.

        Both are the value itself with `calibration_bins=exact`.

        Raises:
            ValueError: There are soft targets.
        """
        return self._auroc.lower, self._auroc.upper

    @property
    def average_precision(self) -> float:
        """The sum of precision times gain in recall over the thresholds, as scikit-learn has it.

        Raises:
            ValueError: There are soft targets.
        """
        return self._average_precision.value

    @property
    def average_precision_bounds(self) -> tuple[float, float]:
        """The least and the greatest that it may be, by the order and the ties within bins.

        Raises:
            ValueError: There are soft targets.
        """
        return self._average_precision.lower, self._average_precision.upper

    @cached_property
    def _auroc(self) -> Area:
        return self._hard("AUROC").auroc()

    @cached_property
    def _average_precision(self) -> Area:
        return self._hard("average precision").average_precision()

    def _hard(self, what: str) -> Scores:
        if self.soft:
            raise ValueError(
                f"{what} needs targets of 0 and 1, and {self.soft} of the targets are neither: a soft target "
                "is no positive and no negative. Use brier, ece or reliability(), or send hard targets"
            )
        return self._scores


class Calibration(ScoreBins):
    """How all probabilities agree with their targets.

    Where a row of classes has a loss, that is the confidence of its top class, the one of the greatest
    probability, and whether it is right: the target of that class. `positives` is then how many are right,
    and `ece` the calibration error of Guo et al. (On Calibration of Modern Neural Networks, 2017).

    Args:
        block: The section.
        inputs: What the inputs are.
        is_of_top_class: Whether a row of classes has a loss.

    Attributes:
        is_of_top_class: The same.
    """

    def __init__(self, block: Block, inputs: str, *, is_of_top_class: bool = False) -> None:
        self._block = block
        self.is_of_top_class = is_of_top_class
        soft = int(block["soft"])
        count, positives = block.counts("count"), block.terms("positives")
        if block["bins"] != "exact":
            scores = _scores(bin_edges(len(count))[:-1], count, positives, exact=False)
            super().__init__(count, positives, block.terms("probability"), scores, soft)
            return
        p = _probabilities(np.asarray(block["values"], dtype=np.float64), inputs)
        places = np.minimum((p * _BINS_OF_VALUES).astype(np.intp), _BINS_OF_VALUES - 1)
        super().__init__(
            _by_bin(places, count),
            np.stack([_by_bin(places, plane) for plane in positives]),
            _by_bin(places, p * count)[None],
            _scores(p.tolist(), count, positives, exact=True),
            soft,
        )

    @property
    def undefined(self) -> int:
        """The number of elements that are left out here, since the input or the target is NaN."""
        return int(self._block["undefined"])

    @property
    def brier(self) -> float:
        """The mean of (probability - target)^2; of a row of classes the sum over them, from 0 to 2."""
        return self._mean("brier")

    @property
    def cross_entropy(self) -> float:
        """The mean of plain cross entropy: without weights, pos_weight, class_weight and smoothing."""
        return self._mean("cross_entropy")

    @property
    def normalized_entropy(self) -> float:
        """The cross entropy, divided by that of the share of positives as everyone's probability.

        Below 1 the probabilities say more than that share (He et al., Practical Lessons from Predicting
        Clicks on Ads at Facebook, 2014). NaN if all targets are 0, or all 1. Of rows of classes it is that of
        the classes' shares of the targets; NaN where the report has no calibration by class.
        """
        if self.is_of_top_class:
            return self._normalized_by_classes()
        rate = self.positives / self.count if self.count else math.nan
        if not 0 < rate < 1:
            return math.nan
        return self.cross_entropy / -(rate * math.log(rate) + (1 - rate) * math.log1p(-rate))

    def _normalized_by_classes(self) -> float:
        if "classes" not in self._block.fields:
            return math.nan
        planes = self._block.block("classes", "in calibration").terms("positives").sum(axis=-1)
        found = [math.fsum(terms) / self.count for terms in planes.T.tolist()] if self.count else []
        entropy = -math.fsum(share * math.log(share) for share in found if share > 0)
        return self.cross_entropy / entropy if entropy > 0 else math.nan

    def _mean(self, name: str) -> float:
        return math.fsum(self._block.terms(name).tolist()) / self.count if self.count else math.nan

    @property
    def classes(self) -> "ClassCalibrations":
        """The same by class, without what is kept over all classes alone: Brier score and entropy.

        Raises:
            MissingSectionError: The report has none; with `calibration_bins=exact` there are none, nor where
                rows of classes have so many that those times the bins are more than 262,144.
        """
        return ClassCalibrations(self._block.block("classes", "in calibration", _FEWER_BINS), self.soft)


class ClassCalibrations(Sequence[ScoreBins]):
    """The calibration of every class, by its place along the class axis."""

    def __init__(self, block: Block, soft: int) -> None:
        self._block = block
        self._soft = soft

    def __len__(self) -> int:
        return len(self._block.counts("count"))

    @overload
    def __getitem__(self, index: int) -> ScoreBins: ...
    @overload
    def __getitem__(self, index: slice) -> list[ScoreBins]: ...
    def __getitem__(self, index: int | slice) -> ScoreBins | list[ScoreBins]:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        place = class_place(index, len(self))
        count = self._block.counts("count")[place]
        positives = self._block.terms("positives")[:, place]
        scores = _scores(bin_edges(len(count))[:-1], count, positives, exact=False)
        return ScoreBins(count, positives, self._block.terms("probability")[:, place], scores, self._soft)

    def worst(self, most: int) -> list[int]:
        """Return the classes of the greatest calibration errors, the greatest first; empty ones are last."""
        count = self._block.counts("count").sum(axis=-1)
        with np.errstate(all="ignore"):
            gaps = self._block.terms("probability").sum(axis=0) - self._block.terms("positives").sum(axis=0)
            errors = np.where(count == 0, -np.inf, np.abs(gaps).sum(axis=-1) / count)
        return worst_first(errors, most)


@lru_cache(maxsize=8)
def bin_edges(bins: int) -> tuple[float, ...]:
    """Return the least probability of each bin, and 1.

    A probability p is in the bin int(p * bins), whose product is rounded: for bins that are no power of two,
    the least p of bin i may be a neighbour of i / bins.
    """
    return tuple(_bin_edge(i, bins) for i in range(bins + 1))


def _bin_edge(i: int, bins: int) -> float:
    edge = i / bins
    while edge * bins < i:
        edge = math.nextafter(edge, math.inf)
    while (below := math.nextafter(edge, -math.inf)) * bins >= i and edge > 0:
        edge = below
    return edge


def _scores(
    thresholds: Sequence[float], count: NDArray[np.int64], positives: Floats, *, exact: bool
) -> Scores:
    """Return positives and negatives by score."""
    sums = list(map(math.fsum, positives.T.tolist()))
    negatives = [number - found for number, found in zip(count.tolist(), sums, strict=True)]
    return Scores(thresholds, sums, negatives, exact=exact)


def _probabilities(values: Floats, inputs: str) -> Floats:
    """Return the probabilities of values: logits, or probabilities themselves."""
    if inputs == "probabilities":
        return values
    e = np.exp(-np.abs(values))
    return np.where(values >= 0, 1.0, e) / (1.0 + e)


def _by_bin(places: NDArray[np.intp], numbers: NDArray[Any]) -> NDArray[Any]:
    """Return the sums of numbers by bin."""
    found = np.zeros(_BINS_OF_VALUES, dtype=numbers.dtype)
    np.add.at(found, places, numbers)
    return found

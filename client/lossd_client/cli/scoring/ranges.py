"""Notes of the values' range: probabilities scored as logits, or swapped files."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lossd_client._calls.arrays import forget, widened
from lossd_client._calls.loss import Loss
from lossd_client._calls.ranges import Within
from lossd_client.cli.inputs.shards import BASELINE, Arrays
from lossd_client.cli.inputs.sources import instead_of_probabilities

_BASELINE_WITHIN: Final = (
    "all logits of the baseline lie in [0, 1], and the others do not: if they are probabilities, its losses "
    "are wrong; give the logits of both{other}"
)


class Ranges:
    """The range of an input's values, updated by block.

    Args:
        role: The input, such as "logits".
        loss: The loss.
        is_dense: Whether the targets are of the inputs' shape, and no class ids.
    """

    def __init__(self, role: str, loss: Loss, *, is_dense: bool) -> None:
        self._role, self._is_dense = role, is_dense
        self._loss = loss
        self._remedy = instead_of_probabilities(loss) if role == "logits" else ""
        self._size = self._rows = 0
        self._has_rows = False
        self._least, self._greatest = np.inf, -np.inf
        self._is_within = True  # all in [0, 1] so far; else nothing more is looked at
        self._are_bits, self._target_bits = True, True
        self._baseline = _Baseline()

    def see(self, block: Arrays) -> None:
        """Look at some rows."""
        scored = block[self._role]
        self._size += scored.size
        self._has_rows |= scored.ndim > 0
        self._rows += len(scored) if scored.ndim else 0
        if BASELINE in block:
            self._baseline.see_beside(block[BASELINE], block["targets"])
        if not (self._is_within and scored.size):
            return
        values = widened(scored)
        self._least = min(self._least, float(values.min()))
        self._greatest = max(self._greatest, float(values.max()))
        self._is_within = bool(values.min() >= 0 and values.max() <= 1)  # of a NaN, too, it is not
        forget(scored)
        if self._role == "probabilities":
            self._are_bits = self._are_bits and _are_bits(values)
            self._target_bits = self._target_bits and _are_bits(widened(block["targets"]))

    def take(self, other: "Ranges") -> None:
        """Add what another looked at: the rows behind these."""
        self._size += other._size
        self._rows += other._rows
        self._has_rows |= other._has_rows
        self._least, self._greatest = min(self._least, other._least), max(self._greatest, other._greatest)
        self._is_within &= other._is_within
        self._are_bits &= other._are_bits
        self._target_bits &= other._target_bits
        self._baseline.take(other._baseline)

    @property
    def of_targets(self) -> str | None:
        """What shows that the baseline's values are those of targets; None if nothing does."""
        return self._baseline.of_targets

    def notes(self) -> list[str]:
        """Return notes of likely mistakes."""
        if self._has_rows and not self._rows:
            return ["the input has no rows"]
        if self._size < 2:
            return []
        if not self._is_within:
            if not (self._remedy and self._baseline.is_likely):
                return []
            return [_BASELINE_WITHIN.format(other=self._other_form_of_both())]
        if self._remedy and self._least < self._greatest:
            swapped = "; if they are targets, the files are swapped" if self._is_dense else ""
            return [f"all logits lie in [0, 1]: if they are probabilities, {self._remedy}{swapped}"]
        if self._role == "probabilities" and self._is_dense and self._are_bits and not self._target_bits:
            return [
                "all probabilities are 0 or 1, and the targets are not: if they are the targets, "
                "the two are swapped"
            ]
        return []

    def _other_form_of_both(self) -> str:
        if self._loss.row == "classes":
            return ", or the logarithms of both"
        takes_both = "probabilities" in self._loss.inputs
        return ", or the probabilities of both and --probabilities" if takes_both else ""


class _Baseline(Within):
    """The values of the baseline: whether all are in [0, 1], and whether they are those of targets."""

    def __init__(self) -> None:
        super().__init__()
        self._size = 0
        self._are_targets = True  # equal to the targets so far; else nothing more is looked at
        self._are_bits, self._target_bits = True, True

    def see_beside(self, array: NDArray[Any], targets: NDArray[Any]) -> None:
        """Look at some rows and their targets."""
        self._size += array.size
        self.see(array)
        if not array.size or not (self._are_targets or (self._all and self._are_bits)):
            return
        values, its = widened(array), widened(targets)
        self._are_targets &= np.array_equal(values, its, equal_nan=values.dtype.kind == "f")
        self._are_bits &= self._all and _are_bits(values)
        self._target_bits = self._target_bits and self._are_bits and _are_bits(its)
        forget(array)

    def take(self, other: Within) -> None:
        """Add what another looked at."""
        super().take(other)
        assert isinstance(other, _Baseline)
        self._size += other._size
        self._are_targets &= other._are_targets
        self._are_bits &= other._are_bits
        self._target_bits &= other._target_bits

    @property
    def of_targets(self) -> str | None:
        """What shows that they are targets."""
        if self._size and self._are_targets:
            return "equals the targets in every element"
        if self.is_likely and self._are_bits and not self._target_bits:
            return "is 0 or 1 in every element, and the targets are not"
        return None


def _are_bits(values: NDArray[Any]) -> bool:
    return bool(np.isin(values[~np.isnan(values)] if values.dtype.kind == "f" else values, (0, 1)).all())

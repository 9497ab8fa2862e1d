"""Whether logits look like probabilities."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossd_client._calls.arrays import FLOATS, Array, as_array, forget, widened


def look_like_probabilities(logits: Array) -> bool:
    """Return whether all logits are in [0, 1], and not all the same.

    Raises:
        TypeError: They are no floats.
        ValueError: They are ragged.
    """
    found = Within()
    found.see(as_array("logits", logits, FLOATS))
    return found.is_likely


class Within:
    """Whether all values that were seen are in [0, 1]."""

    def __init__(self) -> None:
        self._all = True
        self._least, self._greatest = np.inf, -np.inf

    def see(self, array: NDArray[Any]) -> None:
        """Look at some rows."""
        if self._all and array.size:
            values = widened(array)
            self._least = min(self._least, float(values.min()))
            self._greatest = max(self._greatest, float(values.max()))
            self._all = bool(values.min() >= 0 and values.max() <= 1)
            forget(array)

    def take(self, other: "Within") -> None:
        """Add what another looked at."""
        self._all &= other._all
        self._least, self._greatest = min(self._least, other._least), max(self._greatest, other._greatest)

    @property
    def is_likely(self) -> bool:
        """Whether they may be probabilities."""
        return self._all and self._least < self._greatest

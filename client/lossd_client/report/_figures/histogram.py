"""The distribution of losses, in bins of a relative width of 1/16 at most."""

import math
import struct
from collections.abc import Mapping
from itertools import accumulate

from lossd_client.report._json import Json


class Histogram:
    """How many losses are in each bin; zero, infinite and NaN apart.

    Attributes:
        zero: How many losses are 0.
        infinite: How many are infinite.
        nan: How many are NaN.
    """

    def __init__(self, fields: Mapping[str, Json]) -> None:
        self.zero: int = fields["zero"]
        self.infinite: int = fields["infinite"]
        self.nan: int = fields["nan"]
        self._counts: dict[int, int] = dict(zip(fields["bins"], fields["counts"], strict=True))

    @property
    def bins(self) -> list[tuple[float, float, int]]:
        """The bins that are not empty, ascending: the least number of each, the greatest, and its count."""
        found = []
        for number, count in self._counts.items():
            edges = _from_bits(number << 48), _from_bits((number << 48) + (1 << 48) - 1)
            found.append((min(edges), max(edges), count))
        return sorted(found)

    @property
    def count(self) -> int:
        """How many losses there are."""
        return self.zero + self.infinite + self.nan + sum(self._counts.values())

    def quantile(self, q: float) -> float:
        """Return the least loss that at least a share q of all does not exceed.

        It is read at the middle of its bin, so within 1/32 relative of the true one for numbers that are not
        subnormal. 0, infinity and NaN, which counts as the greatest, are exact. Of no losses it is NaN.

        Raises:
            ValueError: q is not from 0 to 1.
        """
        if not 0 <= q <= 1:
            raise ValueError(f"a quantile is from 0 to 1, such as 0.99, and is {q}")
        middles = [(_from_bits((number << 48) + (1 << 47)), count) for number, count in self._counts.items()]
        ordered = sorted([*middles, (0.0, self.zero)])
        ordered += [(math.inf, self.infinite), (math.nan, self.nan)]
        wanted = max(1, math.ceil(q * self.count))
        reached = accumulate(count for _, count in ordered)
        found = (value for (value, _), total in zip(ordered, reached, strict=True) if total >= wanted)
        return next(found, math.nan)


def _from_bits(bits: int) -> float:
    number: float = struct.unpack("<d", struct.pack("<Q", bits))[0]
    return number

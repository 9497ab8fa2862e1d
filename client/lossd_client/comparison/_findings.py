"""What the figures of a comparison say about its intervals and its bound, beside the verdict."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from lossd_client.comparison._bound import Bound
from lossd_client.comparison._change import FEW, Change
from lossd_client.comparison._pairing import Pairing
from lossd_client.report._drawing.markup import counted, number
from lossd_client.report._figures.groups import GroupId

_UNLIKE: Final = 4  # simulations hold intervals right for sizes up to fourfold


@dataclass(frozen=True)
class Findings:
    """The changes of a comparison.

    Attributes:
        bound: The bound.
        pairing: How the two models are paired.
        whole: The change over all rows.
        groups: That of each group.
    """

    bound: Bound
    pairing: Pairing
    whole: Change
    groups: Mapping[GroupId, Change]

    def notes(self, sizes: Sequence[Sequence[int]]) -> Iterator[str]:
        """Yield sentences on what may surprise.

        Args:
            sizes: The rows of the clusters, of each report that has its own.
        """
        yield from self._on_bound()
        yield from self._on_copies()
        if self.whole.clusters is not None:
            yield from self._on_few_clusters(sizes)
            yield from self._on_unlike_clusters(sizes)

    def _on_bound(self) -> Iterator[str]:
        value, mean = self.bound.value, self.whole.baseline
        if not self.bound.is_relative and value > mean > 0:
            yield (
                f"The bound, {number(value)}, is in units of the loss, and above the baseline's mean itself, "
                f"{number(mean)}: did you mean {number(value)}%?"
            )

    def _on_copies(self) -> Iterator[str]:
        named = [change for change in (self.whole, *self.groups.values()) if _is_exact(change, self.bound)]
        if not named or self.pairing == "none":
            return
        unit, units = named[0].units
        where = "" if named[0] is self.whole else f" of {counted(len(named), 'group')}"
        yield (
            f"All {units} {unit}s{where} differ by exactly the same, so that the interval is a point: are "
            "they copies of one?"
        )

    def _on_few_clusters(self, sizes: Sequence[Sequence[int]]) -> Iterator[str]:
        fewest = min(map(len, sizes))
        groups = sum(change.clusters is not None and change.clusters < FEW for change in self.groups.values())
        where = [f"there are {fewest}"] if fewest < FEW else []
        if groups:
            where.append(
                f"{groups} of {counted(len(self.groups), 'group')} {'has' if groups == 1 else 'have'} fewer"
            )
        if where:
            yield f"Intervals from fewer than {FEW} clusters may be too narrow, and {' and '.join(where)}."

    def _on_unlike_clusters(self, sizes: Sequence[Sequence[int]]) -> Iterator[str]:
        for its in sizes:
            least, most = min(its, default=1), max(its, default=1)
            if most > _UNLIKE * least:
                yield (
                    f"Clusters have {least:,} to {most:,} rows: where they differ more than {_UNLIKE} times, "
                    "intervals may be too narrow."
                )
                return


def _is_exact(change: Change, bound: Bound) -> bool:
    """Return whether a change that is not 0 has a standard error of exactly 0."""
    is_relative = bound.is_relative and change.baseline != 0
    stderr = change.relative_stderr if is_relative else change.stderr
    return stderr == 0 and change.difference != 0

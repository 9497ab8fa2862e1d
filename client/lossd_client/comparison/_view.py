"""What a comparison has found."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lossd_client.comparison._change import Change, Verdict
from lossd_client.comparison._pairing import Pairing
from lossd_client.report._figures.groups import GroupId


@dataclass(frozen=True)
class ComparisonView:
    """The figures of a comparison, as every form of output takes them; `Comparison` describes them."""

    loss_name: str
    params: Mapping[str, Any]
    whole: Change
    groups: Mapping[GroupId, Change]
    by: tuple[str, ...]
    clusters: tuple[str, ...]
    pairing: Pairing
    max_regression: float | str
    bound: float
    is_relative: bool
    confidence: float
    notes: tuple[str, ...]

    @cached_property
    def verdict(self) -> Verdict:
        """The verdict on the whole and all groups, "regressed" if one has, else "undecided" if one is."""
        found = {change.verdict for _, change in self.changes()}
        return "regressed" if "regressed" in found else "undecided" if "undecided" in found else "passed"

    @property
    def regressed(self) -> bool:
        """Whether the whole or a group has regressed beyond the bound."""
        return self.verdict == "regressed"

    def changes(self) -> Iterator[tuple[GroupId | None, Change]]:
        """Yield all changes with the ids of their groups; the whole is the first, with None."""
        yield None, self.whole
        yield from self.groups.items()

"""A model against another one, its baseline."""

from collections.abc import Mapping
from typing import Any

from lossd_client.report._figures.block import Block, Part
from lossd_client.report._figures.differences import ClassDifferences, RowDifference
from lossd_client.report._figures.groups import Groups
from lossd_client.report._figures.top import TopElement, TopRow, read_elements, read_rows, run_list
from lossd_client.report._json import Json


class Paired(RowDifference):
    """The differences of all losses from the baseline's.

    Args:
        document: The report's document.
        whole: Its totals.
        params: The parameters.
        groups: The groups, if the report has some.
    """

    def __init__(
        self, document: Mapping[str, Json], whole: Part, params: Mapping[str, Any], groups: Groups | None
    ) -> None:
        super().__init__(Part(Block.section(document, "paired")), whole, params)
        self._document = document
        self._groups = groups

    @property
    def stderr_by_group(self) -> float:
        """The standard error of the mean difference, with the groups as clusters.

        Raises:
            MissingSectionError: The report has no groups.
        """
        return self._grouped().paired_stderr

    def interval_by_group(self, level: float = 0.95) -> tuple[float, float]:
        """Return the confidence interval of the mean difference, with the groups as clusters.

        Raises:
            MissingSectionError: The report has no groups.
            ValueError: The level is not between 0 and 1.
        """
        return self._grouped().paired_interval(level)

    def _grouped(self) -> Groups:
        if self._groups is None:
            Block.section(self._document, "groups")  # raises
        assert self._groups is not None
        return self._groups

    @property
    def classes(self) -> ClassDifferences:
        """The differences of every class."""
        whole = Part(Block.section(self._document, "classes"))
        return ClassDifferences(self._part.within("classes", "in paired"), whole, self._params)

    @property
    def worse_rows(self) -> list[TopRow]:
        """The rows whose loss is above the baseline's by most."""
        return self._rows("worse")

    @property
    def better_rows(self) -> list[TopRow]:
        """The rows whose loss is below the baseline's by most."""
        return self._rows("better")

    @property
    def worse_elements(self) -> list[TopElement]:
        """The elements whose loss is above the baseline's by most."""
        return self._elements("worse")

    @property
    def better_elements(self) -> list[TopElement]:
        """The elements whose loss is below the baseline's by most."""
        return self._elements("better")

    def _rows(self, which: str) -> list[TopRow]:
        ids = Block.section(self._document, "top")["ids"]
        return read_rows(self._list(which, "rows"), ids, run_list(self._document, which, "rows"))

    def _elements(self, which: str) -> list[TopElement]:
        ids = Block.section(self._document, "top")["ids"]
        return read_elements(self._list(which, "elements"), ids, run_list(self._document, which, "elements"))

    def _list(self, which: str, what: str) -> Json:
        return self._part.block.block("top", "in paired")[which][what]

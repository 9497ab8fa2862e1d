"""What a report says: every figure that follows from its document."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from lossd_client._calls.parameters import DEFAULT, Default
from lossd_client.report._figures.block import Block, Part
from lossd_client.report._figures.calibration import Calibration
from lossd_client.report._figures.figures import Classes, RowFigures, mean_of
from lossd_client.report._figures.groups import Groups
from lossd_client.report._figures.histogram import Histogram
from lossd_client.report._figures.paired import Paired
from lossd_client.report._figures.sweep import Given, Sweep
from lossd_client.report._figures.top import TopElement, TopRow, read_elements, read_rows, run_list
from lossd_client.report._merging.layout import SCHEMA, SECTIONS
from lossd_client.report._soundness import refuse_contradictions


class ReportView(RowFigures):
    """The figures of a report; `Report` describes it."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        schema = document.get("schema")
        if schema != SCHEMA:
            raise ValueError(f"no report: its schema is {schema!r}, and not {SCHEMA!r}")
        if not isinstance(document.get("totals"), Mapping):
            raise ValueError("no report: it has no section totals")
        refuse_contradictions(document)
        self._document = document
        self._totals = Block(document["totals"])
        super().__init__(Part(self._totals), document["totals"]["params"])

    @property
    def sections(self) -> tuple[str, ...]:
        """The sections that it has."""
        return tuple(name for name in SECTIONS if name in self._document)

    @property
    def loss_name(self) -> str:
        """The loss, such as "focal"."""
        return str(self._totals["loss"])

    @property
    def params(self) -> Mapping[str, Any]:
        """The parameters with their defaults, the loss's own and those of every loss."""
        return self._params

    @property
    def run(self) -> Mapping[str, Any]:
        """What the report was made from and by, which is no part of what makes reports equal."""
        found: Mapping[str, Any] = self._document.get("run") or {}
        return found

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, along the class axis; none if they are not known."""
        found = self.run.get("class_names")
        return tuple(map(str, found)) if isinstance(found, list) else ()

    @property
    def version(self) -> str | None:
        """The server's version."""
        return self.run.get("version")

    @property
    def kernel(self) -> str | None:
        """The code that computed it."""
        return self.run.get("kernel")

    @property
    def device(self) -> str | None:
        """The device that computed it."""
        return self.run.get("device")

    @property
    def request_id(self) -> str | None:
        """The request id in the server's logs."""
        return self.run.get("request_id")

    @property
    def stderr_by_group(self) -> float:
        """The standard error of the mean, with the groups as clusters; see `Groups.stderr`."""
        return self.groups.stderr

    def _section(self, name: str) -> Block:
        return Block.section(self._document, name)

    @cached_property
    def classes(self) -> Classes:
        """The figures of every class."""
        return Classes(Part(self._section("classes")), self._params)

    @cached_property
    def groups(self) -> Groups:
        """The figures of every group of rows."""
        return Groups.of_block(self._section("groups"), self._params, self._part)

    @cached_property
    def top_rows(self) -> list[TopRow]:
        """The rows with the greatest losses, the greatest first."""
        top = self._section("top")
        return read_rows(top["rows"], top["ids"], run_list(self._document, "rows"))

    @cached_property
    def top_elements(self) -> list[TopElement]:
        """The elements with the greatest losses, the greatest first."""
        top = self._section("top")
        return read_elements(top["elements"], top["ids"], run_list(self._document, "elements"))

    @cached_property
    def element_histogram(self) -> Histogram:
        """How the losses of elements are distributed."""
        return Histogram(self._section("histogram")["elements"])

    @cached_property
    def row_histogram(self) -> Histogram:
        """How the losses of rows are distributed."""
        return Histogram(self._section("histogram")["rows"])

    def quantile(self, q: float) -> float:
        """Return a quantile of the elements' losses, within 1/32 relative; see `Histogram.quantile`."""
        return self.element_histogram.quantile(q)

    def row_quantile(self, q: float) -> float:
        """Return a quantile of the rows' losses, within 1/32 relative; see `Histogram.quantile`."""
        return self.row_histogram.quantile(q)

    @cached_property
    def calibration(self) -> Calibration:
        """How well the probabilities agree with the targets."""
        return Calibration(
            self._section("calibration"), self._totals["inputs"], is_of_top_class="loss_of" in self._totals
        )

    @cached_property
    def sweep(self) -> Sweep:
        """The sums that `at` uses."""
        return Sweep(self._section("sweep"), self._params)

    def at(
        self, *, alpha: Given = DEFAULT, pos_weight: Given = DEFAULT, gamma: float | Default = DEFAULT
    ) -> float:
        """Return the mean loss at other parameters, under the request's normalizer.

        It is within 1e-12 relative of what a request of its own would say, and may not have its bits.

        Args:
            alpha: A number, or one for each class; None turns it off. By default all are the request's.
            pos_weight: A number, or one for each class; None is 1.
            gamma: One of the sweep's.

        Raises:
            TypeError: The loss has no such parameter.
            ValueError: There are no sums for one of them; the message names those that there are.
            MissingSectionError: The report has no section sweep, or none by class where a list needs it.
        """
        return mean_of(self.sweep.sum_at(alpha, pos_weight, gamma), self._part, self._params)

    @cached_property
    def paired(self) -> Paired:
        """The differences from the baseline's losses."""
        groups = self.groups if "groups" in self._document else None
        return Paired(self._document, self._part, self._params, groups)

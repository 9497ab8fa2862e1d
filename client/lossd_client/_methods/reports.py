"""The report of a loss as a method of both clients."""

from __future__ import annotations  # overloads name many types, which take time to make

from abc import abstractmethod
from typing import Any, Generic, Literal, TypeVar, Unpack, overload

from lossd_client._calls.arrays import Array
from lossd_client._calls.calls import LossCall, report_call
from lossd_client._calls.catalog import (
    AsymmetricReport,
    BceReport,
    BoxReport,
    CrossEntropyReport,
    DiceReport,
    FocalReport,
    HingeReport,
    SoftmaxFocalReport,
    SquaredReport,
    TverskyReport,
    VarifocalReport,
)
from lossd_client._calls.labels import Column, Groups
from lossd_client._calls.parameters import Bins, LossName, RowLoss, Sections, Sweep
from lossd_client._methods.further_losses import FurtherLosses
from lossd_client._methods.losses import AnswerT

ReportT = TypeVar("ReportT")  # Report, or a coroutine that gives one


class Reports(FurtherLosses[AnswerT], Generic[AnswerT, ReportT]):
    """A method for the report of a loss."""

    @abstractmethod
    def _report(self, call: LossCall) -> ReportT: ...

    # overloads of report: Written by `make reference` from lossd/core/catalog.py: change that.
    @overload
    def report(
        self,
        loss: Literal["bce"],
        /,
        logits: Array | None = None,
        targets: Array | None = None,
        **given: Unpack[BceReport],
    ) -> ReportT: ...
    @overload
    def report(
        self,
        loss: Literal["focal"],
        /,
        logits: Array | None = None,
        targets: Array | None = None,
        **given: Unpack[FocalReport],
    ) -> ReportT: ...
    @overload
    def report(
        self,
        loss: Literal["asymmetric"],
        /,
        logits: Array | None = None,
        targets: Array | None = None,
        **given: Unpack[AsymmetricReport],
    ) -> ReportT: ...
    @overload
    def report(
        self,
        loss: Literal["varifocal"],
        /,
        logits: Array | None = None,
        targets: Array | None = None,
        **given: Unpack[VarifocalReport],
    ) -> ReportT: ...
    @overload
    def report(
        self,
        loss: Literal["cross_entropy"],
        /,
        logits: Array | None = None,
        targets: Array | None = None,
        **given: Unpack[CrossEntropyReport],
    ) -> ReportT: ...
    @overload
    def report(
        self,
        loss: Literal["softmax_focal"],
        /,
        logits: Array | None = None,
        targets: Array | None = None,
        **given: Unpack[SoftmaxFocalReport],
    ) -> ReportT: ...
    @overload
    def report(
        self,
        loss: Literal["dice"],
        /,
        logits: Array | None = None,
        targets: Array | None = None,
        **given: Unpack[DiceReport],
    ) -> ReportT: ...
    @overload
    def report(
        self,
        loss: Literal["tversky"],
        /,
        logits: Array | None = None,
        targets: Array | None = None,
        **given: Unpack[TverskyReport],
    ) -> ReportT: ...
    @overload
    def report(
        self,
        loss: Literal["squared"],
        /,
        logits: Array | None = None,
        targets: Array | None = None,
        **given: Unpack[SquaredReport],
    ) -> ReportT: ...
    @overload
    def report(
        self,
        loss: Literal["hinge"],
        /,
        logits: Array | None = None,
        targets: Array | None = None,
        **given: Unpack[HingeReport],
    ) -> ReportT: ...
    @overload
    def report(
        self,
        loss: Literal["box"],
        boxes: Array | None = None,
        /,
        targets: Array | None = None,
        **given: Unpack[BoxReport],
    ) -> ReportT: ...
    # end
    def report(
        self,
        loss: LossName,
        /,
        logits: Array | None = None,
        targets: Array | None = None,
        *,
        probabilities: Array | None = None,
        weight: Array | None = None,
        mask: Array | None = None,
        groups: Groups | None = None,
        ids: Column | None = None,
        baseline: Array | None = None,
        sections: Sections | None = None,
        top: int = 20,
        row: RowLoss = "sum",
        first_row: int = 0,
        calibration_bins: Bins = 64,
        sweep: Sweep | None = None,
        **params: Any,
    ) -> ReportT:
        """Report what a loss is made of: `report("focal", x, y, gamma=2.0, groups=cameras, ids=names)`.

        One pass over the tensors gives the loss by class and by group, the rows and elements of the greatest
        loss, quantiles, standard errors, calibration, other gammas, and the comparison with another model. A
        row is an index of axis 0. Large inputs go in several requests, as in `bce`, and their reports are
        merged exactly.

        Args:
            loss: The loss, such as "bce".
            logits: As in `bce`; or the loss's other inputs, such as the boxes of "box", which may be given by
                their name.
            targets: As in `bce`.
            probabilities: As in `bce`.
            weight: As in `bce`.
            mask: As in `bce`.
            groups: A group for each row: integers, or strings of at most 256 bytes; an array, a list, or a
                column of pandas, polars or pyarrow. Several at once: an array [N, G], a table, or a mapping
                such as `{"camera": cameras, "weather": weathers}`, whose names the report has.
            ids: An id for each row, in the same forms. Each is there once.
            baseline: The logits or probabilities of another model, of the inputs' kind and shape.
            sections: Those to make, such as ["classes", "top"]; by default all that the tensors allow.
            top: How many rows and elements of the greatest loss to list.
            row: A row's loss: the "sum" of its elements' or their "mean".
            first_row: The index of the first row, for a part of a larger whole.
            calibration_bins: How many; or "exact", one for each value of 16-bit inputs.
            sweep: Gammas to report on too: `{"gamma": [0, 1, 2]}`, at most 32.
            params: The loss's parameters: as in its method, without `reduction` and `axis`.

        Returns:
            The report. What is valid and may still not be meant is a warning.

        Raises:
            TypeError: As `bce`; or groups or ids are neither integers nor strings.
            ValueError: As `bce`; or a group or an id is missing, or longer than 256 bytes.
            InvalidRequest: As `bce`.
            TooLarge: The report would have too many figures; the message names the section and the remedy.
            LossdError: As `bce`.
        """
        return self._report(report_call(loss, locals()))

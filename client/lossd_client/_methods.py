"""The losses as methods of both clients."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Generic, Literal, TypeVar, Unpack, overload

from lossd_client._arrays import Array
from lossd_client._calls import (
    DEFAULT,
    Axis,
    BceParams,
    BceReportParams,
    Bins,
    Default,
    FocalParams,
    FocalReportParams,
    IgnoreIndex,
    LossCall,
    LossName,
    Normalizer,
    Reduction,
    RowLoss,
    Sections,
    Shared,
    Sweep,
    TargetsFormat,
    Tensors,
    Variant,
    batch_call,
)
from lossd_client._labels import Column, Groups

AnswerT = TypeVar("AnswerT")  # LossResult, or a coroutine that gives one
BatchesT = TypeVar("BatchesT")  # an iterable of batches, for the asynchronous client of either kind
AnswersT = TypeVar("AnswersT")  # an iterator of LossResult, or an asynchronous one
ReportT = TypeVar("ReportT")  # Report, or a coroutine that gives one


class Losses(ABC, Generic[AnswerT]):
    """A method for each loss."""

    @abstractmethod
    def _score(self, call: LossCall) -> AnswerT: ...

    def bce(
        self,
        logits: Array | None = None,
        targets: Array | None = None,
        *,
        probabilities: Array | None = None,
        weight: Array | None = None,
        mask: Array | None = None,
        pos_weight: Array | None = None,
        reduction: Reduction = "mean",
        axis: Axis = None,
        normalizer: Normalizer = "count",
        class_axis: int = -1,
        targets_format: TargetsFormat = "dense",
        background_index: int | None = None,
        label_smoothing: float = 0.0,
        ignore_index: IgnoreIndex = None,
        allow_nan: bool = False,
    ) -> AnswerT:
        """Binary cross entropy: `bce(x, y)` of logits, `bce(probabilities=p, targets=y)` of probabilities.

        Tensors are arrays of numpy, torch (on any device, bfloat16 too), or whatever speaks DLPack or
        `__array__`; or nested lists. Contiguous ones, in C or Fortran order, are sent from where they lie.
        Inputs of more than the client's `request_bytes` go in several requests, a number of rows in each.

        Args:
            logits: The raw outputs, before any sigmoid. Floats of 16 to 64 bits, 1 to 8 dimensions;
                infinities are allowed.
            targets: Always needed. Each in [0, 1], in the inputs' shape: the same
                floats, bool, or integers of 8 to 64 bits. Or class ids, see `targets_format`. Lists may hold
                None, see `ignore_index`.
            probabilities: Instead of logits: each in [0, 1]. Floats, 1 to 8 dimensions.
            weight: A factor for each element, >= 0: floats or integers that broadcast to the inputs.
            mask: Which elements count: bool, or integers of 0 and 1; broadcasts to the inputs. The others'
                losses are 0, and nothing under them is looked at.
            pos_weight: A factor for the positive term, >= 0: a number, or an array of floats or integers. One
                dimension, [C], lies along `class_axis`; more broadcast to the inputs by numpy's rules, such
                as [C, 1, 1] for inputs [N, C, H, W], [N, 1], or one an element.
            reduction: "mean" divides the weighted sum by what `normalizer` says, "sum" does not, and "none"
                gives the losses themselves, in the inputs' shape.
            axis: With "mean" or "sum", reduce over these axes only; they vanish from the result.
            normalizer: What "mean" divides by: the "count" of elements, the sum of the "weight", the sum of
                the targets ("positives", at least 1), or a positive number.
            class_axis: The axis along which the classes lie: those of a `pos_weight` of shape [C], and of
                "index" targets.
            targets_format: "dense", or "index": the targets are class ids from 0 to C - 1, in the inputs'
                shape less `class_axis`, scored as one-hot. Integers, or floats of whole numbers.
            background_index: With "index": an id equal to this is of no class. Its C targets are all 0, and
                count: a detector's background. Under `ignore_index` they would not count, which is another
                loss.
            label_smoothing: e in [0, 1): each target y becomes y (1 - e) + e / 2.
            ignore_index: A target equal to this number drops its element, and an id all its classes. "nan":
                targets that are NaN, or None in a list, do, so that partly labelled data can be scored.
            allow_nan: Let a NaN propagate, instead of having it refused with its place.

        Returns:
            The loss, a float or a float64 array, with the figures to merge batches by.

        Raises:
            TypeError: Not exactly one of logits and probabilities is given, or no targets, or a dtype or a
                parameter's type is not allowed; before anything is sent.
            ValueError: Nested lists are ragged, or a parameter is not finite; likewise.
            InvalidRequest: The server found shapes, values or parameters at fault.
            LossdError: Any other failure; see `lossd_client.errors`.
        """
        tensors = Tensors(logits, probabilities, targets, weight, mask, pos_weight)
        shared = Shared(
            reduction,
            axis,
            normalizer,
            class_axis,
            targets_format,
            background_index,
            label_smoothing,
            ignore_index,
            allow_nan,
        )
        return self._score(LossCall("bce", tensors, shared))

    def focal(
        self,
        logits: Array | None = None,
        targets: Array | None = None,
        *,
        probabilities: Array | None = None,
        gamma: float | Default = DEFAULT,
        alpha: Array | Default | None = DEFAULT,
        variant: Variant | Default = DEFAULT,
        weight: Array | None = None,
        mask: Array | None = None,
        pos_weight: Array | None = None,
        reduction: Reduction = "mean",
        axis: Axis = None,
        normalizer: Normalizer = "count",
        class_axis: int = -1,
        targets_format: TargetsFormat = "dense",
        background_index: int | None = None,
        label_smoothing: float = 0.0,
        ignore_index: IgnoreIndex = None,
        allow_nan: bool = False,
    ) -> AnswerT:
        """Focal loss of logits or probabilities: binary cross entropy in which easy elements count less.

        Args:
            logits: As in `bce`.
            targets: As in `bce`.
            probabilities: As in `bce`.
            gamma: How much less easy elements count, 0 to 1000. The server's default is 1.5.
            alpha: The positives' share of the balance, in [0, 1]: a number, or one a class along
                `class_axis`, in a list or an array. None turns it off. The server's default is 0.25.
            variant: The factor to the power of gamma: "sigmoid", one minus the probability of the target;
                "exp", one minus exp(-bce); or "quality", the distance between probability and target.
                The server's default is "sigmoid".
            weight: As in `bce`.
            mask: As in `bce`.
            pos_weight: As in `bce`.
            reduction: As in `bce`.
            axis: As in `bce`.
            normalizer: As in `bce`.
            class_axis: As in `bce`; the classes of a list as `alpha` lie along it too.
            targets_format: As in `bce`.
            background_index: As in `bce`.
            label_smoothing: As in `bce`.
            ignore_index: As in `bce`.
            allow_nan: As in `bce`.

        Returns:
            As `bce`.

        Raises:
            TypeError: As `bce`.
            ValueError: As `bce`.
            LossdError: As `bce`.
        """
        tensors = Tensors(logits, probabilities, targets, weight, mask, pos_weight)
        shared = Shared(
            reduction,
            axis,
            normalizer,
            class_axis,
            targets_format,
            background_index,
            label_smoothing,
            ignore_index,
            allow_nan,
        )
        own = {"gamma": gamma, "alpha": alpha, "variant": variant}
        return self._score(LossCall("focal", tensors, shared, own))


class Reports(Losses[AnswerT], Generic[AnswerT, ReportT]):
    """A method for the report of a loss."""

    @abstractmethod
    def _report(self, call: LossCall) -> ReportT: ...

    @overload
    def report(
        self,
        loss: Literal["bce"],
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
        **params: Unpack[BceReportParams],
    ) -> ReportT: ...
    @overload
    def report(
        self,
        loss: Literal["focal"],
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
        **params: Unpack[FocalReportParams],
    ) -> ReportT: ...
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
        **params: Unpack[FocalReportParams],
    ) -> ReportT:
        """Report what a loss is made of: `report("focal", x, y, gamma=2.0, groups=cameras, ids=names)`.

        One pass over the tensors gives the loss by class and by group, the rows and elements of the greatest
        loss, quantiles, standard errors, calibration, other gammas, and the comparison with another model. A
        row is an index of axis 0. Large inputs go in several requests, as in `bce`, and their reports are
        merged exactly.

        Args:
            loss: "bce" or "focal".
            logits: As in `bce`.
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
            params: The loss's parameters: as in `bce` and `focal`, without `reduction` and `axis`.

        Returns:
            The report.

        Raises:
            TypeError: As `bce`; or groups or ids are neither integers nor strings.
            ValueError: As `bce`; or a group or an id is missing, or longer than 256 bytes.
            InvalidRequest: As `bce`.
            TooLarge: The report would have too many figures; the message names the section and the remedy.
            LossdError: As `bce`.
        """
        for name in ("reduction", "axis"):
            if name in params:
                raise TypeError(f"report() has no parameter {name!r}: a report is of all elements")
        tensors = {
            "logits": logits,
            "probabilities": probabilities,
            "targets": targets,
            "weight": weight,
            "mask": mask,
            "groups": groups,
            "ids": ids,
            "baseline": baseline,
        }
        asked = {
            "sections": "all" if sections is None else sections,
            "top": top,
            "row": row,
            "first_row": first_row,
            "calibration_bins": calibration_bins,
            "sweep": sweep,
        }
        # Their sum is there where nothing is left to divide by, too.
        return self._report(batch_call(loss, tensors, {**params, **asked, "reduction": "sum"}))


class BatchLosses(Reports[AnswerT, ReportT], Generic[AnswerT, BatchesT, AnswersT, ReportT]):
    """Methods that score many batches.

    A batch is `(logits, targets)`, a tuple or a list, or a mapping of tensors by name, such as
    `{"probabilities": p, "targets": y, "mask": m}`. Parameters are those of `bce` and `focal`. With
    `sections`, those of `report` are too, batches may have `groups`, `ids` and a `baseline`, and results have
    a `report`, whose rows are numbered on from batch to batch.
    """

    @abstractmethod
    def _score_batches(self, loss: LossName, batches: BatchesT, params: Mapping[str, Any]) -> AnswerT: ...

    @abstractmethod
    def _iter_batches(self, loss: LossName, batches: BatchesT, params: Mapping[str, Any]) -> AnswersT: ...

    @abstractmethod
    def _score_stream(self, loss: LossName, batches: BatchesT, params: Mapping[str, Any]) -> AnswerT: ...

    @overload
    def score_batches(
        self, loss: Literal["bce"], batches: BatchesT, /, **params: Unpack[BceParams]
    ) -> AnswerT: ...
    @overload
    def score_batches(
        self, loss: Literal["focal"], batches: BatchesT, /, **params: Unpack[FocalParams]
    ) -> AnswerT: ...
    def score_batches(self, loss: LossName, batches: BatchesT, /, **params: Unpack[FocalParams]) -> AnswerT:
        """Score batches as if they were one input: `score_batches("focal", loader, gamma=2.0)`.

        The result has the bits of one request over everything, in whatever order and sizes the batches come.

        Each batch is a request. `concurrency` requests are in flight, and that many batches are in memory. A
        batch that fails is retried as any request is; the first that fails for good ends the call. A batch
        may be empty, or have every element dropped: a mean is divided once, at the end.

        Batches are copied as they are drawn, unless `concurrency` is 1, so their maker may reuse a buffer.

        Args:
            loss: "bce" or "focal".
            batches: Any iterable, read once; see the class.
            params: As in `bce` and `focal`. With reduction="none", or an `axis` that leaves rows standing,
                the losses of all batches are joined: memory for them all. `iter_batches` needs none.

        Returns:
            What `LossResult.merge` makes of the batches' results.

        Raises:
            TypeError: A batch, or a parameter, is not as it should be.
            ValueError: There are no batches; or one is ragged; or the results cannot be merged.
            InvalidRequest: The mean of all batches is over nothing, code "empty_mean".
            LossdError: As `bce`.
        """
        return self._score_batches(loss, batches, params)

    @overload
    def iter_batches(
        self, loss: Literal["bce"], batches: BatchesT, /, **params: Unpack[BceParams]
    ) -> AnswersT: ...
    @overload
    def iter_batches(
        self, loss: Literal["focal"], batches: BatchesT, /, **params: Unpack[FocalParams]
    ) -> AnswersT: ...
    def iter_batches(self, loss: LossName, batches: BatchesT, /, **params: Unpack[FocalParams]) -> AnswersT:
        """Score batches as they come and yield the result of each, in order.

        Batches are drawn as results are taken, `concurrency` ahead, and copied as in `score_batches`. Closing
        the iterator, or leaving it to the garbage collector, breaks off what is in flight and draws no more.

        Args:
            loss: "bce" or "focal".
            batches: As in `score_batches`.
            params: As in `bce` and `focal`.

        Returns:
            An iterator of results. `LossResult.merge([so_far, result])` keeps a running one.

        Raises:
            TypeError: As `score_batches`, when the batch is drawn.
            ValueError: A batch is ragged.
            InvalidRequest: Among others, the mean of a batch is over nothing, code "empty_mean", which ends
                the iterator; reduction="sum" has one of such a batch too.
            LossdError: As `bce`.
        """
        return self._iter_batches(loss, batches, params)

    @overload
    def score_stream(
        self, loss: Literal["bce"], batches: BatchesT, /, **params: Unpack[BceParams]
    ) -> AnswerT: ...
    @overload
    def score_stream(
        self, loss: Literal["focal"], batches: BatchesT, /, **params: Unpack[FocalParams]
    ) -> AnswerT: ...
    def score_stream(self, loss: LossName, batches: BatchesT, /, **params: Unpack[FocalParams]) -> AnswerT:
        """Score batches as one input in one request: an Arrow stream, which the server scores as it comes.

        Like `score_batches` it gives what one request over everything gives, to the last bit. It is one
        connection, and if that fails everything is sent again; or not, if `batches` can be read only once, as
        a generator can.

        Needs pyarrow: `pip install 'lossd[arrow]'`.

        Args:
            loss: "bce" or "focal".
            batches: As in `score_batches`; all with the same tensors, dtypes, and number of columns: [N] or
                [N, C], and all tensors with as many dimensions as the inputs: a weight a row is [N, 1].
                Groups and ids are of one dtype, or strings. Larger batches are cut to the server's limit for
                a record batch.
            params: As in `bce` and `focal`.

        Returns:
            The result.

        Raises:
            TypeError: As `score_batches`; or a batch's dtypes differ from the first one's.
            ValueError: A batch has other than one or two dimensions, or other columns than the first one, or
                a tensor other dimensions than the inputs.
            ModuleNotFoundError: pyarrow is not installed.
            LossdError: As `bce`.
        """
        return self._score_stream(loss, batches, params)

"""Methods of both clients that score many batches."""

from __future__ import annotations  # overloads name many types, which take time to make

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Generic, Literal, TypeVar, Unpack, overload

from lossd_client._calls.catalog import (
    AsymmetricParams,
    BceParams,
    BoxParams,
    CrossEntropyParams,
    DiceParams,
    FocalParams,
    HingeParams,
    SoftmaxFocalParams,
    SquaredParams,
    TverskyParams,
    VarifocalParams,
)
from lossd_client._calls.parameters import LossName
from lossd_client._methods.losses import AnswerT
from lossd_client._methods.reports import Reports, ReportT

BatchesT = TypeVar("BatchesT")  # an iterable of batches, for the asynchronous client of either kind
AnswersT = TypeVar("AnswersT")  # an iterator of LossResult, or an asynchronous one


class BatchLosses(Reports[AnswerT, ReportT], Generic[AnswerT, BatchesT, AnswersT, ReportT]):
    """Methods that score many batches.

    A batch is `(logits, targets)`, a tuple or a list, or a mapping of tensors by name, such as
    `{"probabilities": p, "targets": y, "mask": m}`. Parameters are those of the loss's method. With
    `sections`, those of `report` are too, batches may have `groups`, `ids` and a `baseline`, and results have
    a `report`, whose rows are numbered on from batch to batch.
    """

    @abstractmethod
    def _score_batches(self, loss: LossName, batches: BatchesT, params: Mapping[str, Any]) -> AnswerT: ...

    @abstractmethod
    def _iter_batches(self, loss: LossName, batches: BatchesT, params: Mapping[str, Any]) -> AnswersT: ...

    @abstractmethod
    def _score_stream(self, loss: LossName, batches: BatchesT, params: Mapping[str, Any]) -> AnswerT: ...

    # overloads of score_batches: Written by `make reference` from lossd/core/catalog.py: change that.
    @overload
    def score_batches(
        self,
        loss: Literal["bce"],
        batches: BatchesT,
        /,
        **params: Unpack[BceParams],
    ) -> AnswerT: ...
    @overload
    def score_batches(
        self,
        loss: Literal["focal"],
        batches: BatchesT,
        /,
        **params: Unpack[FocalParams],
    ) -> AnswerT: ...
    @overload
    def score_batches(
        self,
        loss: Literal["asymmetric"],
        batches: BatchesT,
        /,
        **params: Unpack[AsymmetricParams],
    ) -> AnswerT: ...
    @overload
    def score_batches(
        self,
        loss: Literal["varifocal"],
        batches: BatchesT,
        /,
        **params: Unpack[VarifocalParams],
    ) -> AnswerT: ...
    @overload
    def score_batches(
        self,
        loss: Literal["cross_entropy"],
        batches: BatchesT,
        /,
        **params: Unpack[CrossEntropyParams],
    ) -> AnswerT: ...
    @overload
    def score_batches(
        self,
        loss: Literal["softmax_focal"],
        batches: BatchesT,
        /,
        **params: Unpack[SoftmaxFocalParams],
    ) -> AnswerT: ...
    @overload
    def score_batches(
        self,
        loss: Literal["dice"],
        batches: BatchesT,
        /,
        **params: Unpack[DiceParams],
    ) -> AnswerT: ...
    @overload
    def score_batches(
        self,
        loss: Literal["tversky"],
        batches: BatchesT,
        /,
        **params: Unpack[TverskyParams],
    ) -> AnswerT: ...
    @overload
    def score_batches(
        self,
        loss: Literal["squared"],
        batches: BatchesT,
        /,
        **params: Unpack[SquaredParams],
    ) -> AnswerT: ...
    @overload
    def score_batches(
        self,
        loss: Literal["hinge"],
        batches: BatchesT,
        /,
        **params: Unpack[HingeParams],
    ) -> AnswerT: ...
    @overload
    def score_batches(
        self,
        loss: Literal["box"],
        batches: BatchesT,
        /,
        **params: Unpack[BoxParams],
    ) -> AnswerT: ...
    # end
    def score_batches(self, loss: LossName, batches: BatchesT, /, **params: Any) -> AnswerT:
        """Score batches as if they were one input: `score_batches("focal", loader, gamma=2.0)`.

        The result has the bits of one request over everything, in whatever order and sizes the batches come.

        Each batch is a request. `concurrency` requests are in flight, and that many batches are in memory. A
        batch that fails is retried as any request is; the first that fails for good ends the call. A batch
        may be empty, or have every element dropped: a mean is divided once, at the end.

        Batches are copied as they are drawn, unless `concurrency` is 1, so their maker may reuse a buffer.

        Args:
            loss: The loss, such as "bce".
            batches: Any iterable, read once; see the class.
            params: As in the loss's method. With reduction="none", or an `axis` that leaves rows standing,
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

    # overloads of iter_batches: Written by `make reference` from lossd/core/catalog.py: change that.
    @overload
    def iter_batches(
        self,
        loss: Literal["bce"],
        batches: BatchesT,
        /,
        **params: Unpack[BceParams],
    ) -> AnswersT: ...
    @overload
    def iter_batches(
        self,
        loss: Literal["focal"],
        batches: BatchesT,
        /,
        **params: Unpack[FocalParams],
    ) -> AnswersT: ...
    @overload
    def iter_batches(
        self,
        loss: Literal["asymmetric"],
        batches: BatchesT,
        /,
        **params: Unpack[AsymmetricParams],
    ) -> AnswersT: ...
    @overload
    def iter_batches(
        self,
        loss: Literal["varifocal"],
        batches: BatchesT,
        /,
        **params: Unpack[VarifocalParams],
    ) -> AnswersT: ...
    @overload
    def iter_batches(
        self,
        loss: Literal["cross_entropy"],
        batches: BatchesT,
        /,
        **params: Unpack[CrossEntropyParams],
    ) -> AnswersT: ...
    @overload
    def iter_batches(
        self,
        loss: Literal["softmax_focal"],
        batches: BatchesT,
        /,
        **params: Unpack[SoftmaxFocalParams],
    ) -> AnswersT: ...
    @overload
    def iter_batches(
        self,
        loss: Literal["dice"],
        batches: BatchesT,
        /,
        **params: Unpack[DiceParams],
    ) -> AnswersT: ...
    @overload
    def iter_batches(
        self,
        loss: Literal["tversky"],
        batches: BatchesT,
        /,
        **params: Unpack[TverskyParams],
    ) -> AnswersT: ...
    @overload
    def iter_batches(
        self,
        loss: Literal["squared"],
        batches: BatchesT,
        /,
        **params: Unpack[SquaredParams],
    ) -> AnswersT: ...
    @overload
    def iter_batches(
        self,
        loss: Literal["hinge"],
        batches: BatchesT,
        /,
        **params: Unpack[HingeParams],
    ) -> AnswersT: ...
    @overload
    def iter_batches(
        self,
        loss: Literal["box"],
        batches: BatchesT,
        /,
        **params: Unpack[BoxParams],
    ) -> AnswersT: ...
    # end
    def iter_batches(self, loss: LossName, batches: BatchesT, /, **params: Any) -> AnswersT:
        """Score batches as they come and yield the result of each, in order.

        Batches are drawn as results are taken, `concurrency` ahead, and copied as in `score_batches`. Closing
        the iterator, or leaving it to the garbage collector, breaks off what is in flight and draws no more.

        Args:
            loss: The loss, such as "bce".
            batches: As in `score_batches`.
            params: As in the loss's method.

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

    # overloads of score_stream: Written by `make reference` from lossd/core/catalog.py: change that.
    @overload
    def score_stream(
        self,
        loss: Literal["bce"],
        batches: BatchesT,
        /,
        **params: Unpack[BceParams],
    ) -> AnswerT: ...
    @overload
    def score_stream(
        self,
        loss: Literal["focal"],
        batches: BatchesT,
        /,
        **params: Unpack[FocalParams],
    ) -> AnswerT: ...
    @overload
    def score_stream(
        self,
        loss: Literal["asymmetric"],
        batches: BatchesT,
        /,
        **params: Unpack[AsymmetricParams],
    ) -> AnswerT: ...
    @overload
    def score_stream(
        self,
        loss: Literal["varifocal"],
        batches: BatchesT,
        /,
        **params: Unpack[VarifocalParams],
    ) -> AnswerT: ...
    @overload
    def score_stream(
        self,
        loss: Literal["cross_entropy"],
        batches: BatchesT,
        /,
        **params: Unpack[CrossEntropyParams],
    ) -> AnswerT: ...
    @overload
    def score_stream(
        self,
        loss: Literal["softmax_focal"],
        batches: BatchesT,
        /,
        **params: Unpack[SoftmaxFocalParams],
    ) -> AnswerT: ...
    @overload
    def score_stream(
        self,
        loss: Literal["dice"],
        batches: BatchesT,
        /,
        **params: Unpack[DiceParams],
    ) -> AnswerT: ...
    @overload
    def score_stream(
        self,
        loss: Literal["tversky"],
        batches: BatchesT,
        /,
        **params: Unpack[TverskyParams],
    ) -> AnswerT: ...
    @overload
    def score_stream(
        self,
        loss: Literal["squared"],
        batches: BatchesT,
        /,
        **params: Unpack[SquaredParams],
    ) -> AnswerT: ...
    @overload
    def score_stream(
        self,
        loss: Literal["hinge"],
        batches: BatchesT,
        /,
        **params: Unpack[HingeParams],
    ) -> AnswerT: ...
    @overload
    def score_stream(
        self,
        loss: Literal["box"],
        batches: BatchesT,
        /,
        **params: Unpack[BoxParams],
    ) -> AnswerT: ...
    # end
    def score_stream(self, loss: LossName, batches: BatchesT, /, **params: Any) -> AnswerT:
        """Score batches as one input in one request: an Arrow stream, which the server scores as it comes.

        Like `score_batches` it gives what one request over everything gives, to the last bit. It is one
        connection, and if that fails everything is sent again; or not, if `batches` can be read only once, as
        a generator can.

        Needs pyarrow: `pip install 'lossd[arrow]'`.

        Args:
            loss: The loss, such as "bce".
            batches: As in `score_batches`; all with the same tensors, dtypes, and number of columns: [N] or
                [N, C]. Weights and masks have as many dimensions as the losses: one weight a row is [N, 1]
                where each element has a loss, and [N] where each row has one. Groups and ids are of one
                dtype, or strings. Larger batches are cut to the server's limit for a record batch.
            params: As in the loss's method.

        Returns:
            The result.

        Raises:
            TypeError: As `score_batches`; or a batch's dtypes differ from the first one's.
            ValueError: A batch has other than one or two dimensions, or other columns than the first one, or
                a tensor other dimensions than it must have.
            ModuleNotFoundError: pyarrow is not installed.
            LossdError: As `bce`.
        """
        return self._score_stream(loss, batches, params)

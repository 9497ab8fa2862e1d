"""The losses as methods of both clients."""

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

from lossd_client._calls.arrays import Array
from lossd_client._calls.calls import LossCall, method_call
from lossd_client._calls.parameters import (
    DEFAULT,
    Axis,
    Default,
    IgnoreIndex,
    Normalizer,
    Reduction,
    TargetsFormat,
    Variant,
)

AnswerT = TypeVar("AnswerT")  # LossResult, or a coroutine that gives one


class Losses(ABC, Generic[AnswerT]):
    """A method for each of the first losses, whose arguments the others refer to."""

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
        return self._score(method_call("bce", locals()))

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
        return self._score(method_call("focal", locals()))

# Written by `make reference` from lossd/core/catalog.py: change that.
"""The further losses as methods of both clients."""

from __future__ import annotations

from typing import Generic, Literal

from lossd_client._calls.arrays import Array
from lossd_client._calls.calls import method_call
from lossd_client._calls.parameters import (
    DEFAULT,
    Axis,
    Default,
    IgnoreIndex,
    Normalizer,
    Reduction,
    TargetsFormat,
)
from lossd_client._methods.losses import AnswerT, Losses


class FurtherLosses(Losses[AnswerT], Generic[AnswerT]):
    """A method for each loss; what is not described here is as in `Losses.bce`."""

    def asymmetric(
        self,
        logits: Array | None = None,
        targets: Array | None = None,
        *,
        probabilities: Array | None = None,
        weight: Array | None = None,
        mask: Array | None = None,
        gamma_pos: float | Default = DEFAULT,
        gamma_neg: float | Default = DEFAULT,
        clip: float | Default = DEFAULT,
        reduction: Reduction = "mean",
        axis: Axis = None,
        normalizer: Normalizer = "count",
        class_axis: int = -1,
        targets_format: TargetsFormat = "dense",
        label_smoothing: float = 0.0,
        ignore_index: IgnoreIndex = None,
        background_index: int | None = None,
        allow_nan: bool = False,
    ) -> AnswerT:
        """Asymmetric loss.

        `y L+ + (1 - y) L-`, with `L+ = (1 - p)^gamma_pos (-log p)`, `L- = m^gamma_neg (-log(1 - m))` and `m =
        max(p - clip, 0)`, for p = sigmoid(x): for labels of which few are positive.

        Args:
            logits: As in `bce`.
            targets: As in `bce`.
            probabilities: Instead of logits: each in [0, 1].
            weight: As in `bce`.
            mask: As in `bce`.
            gamma_pos: How much less easy positives count: (1 - p)^gamma_pos. The server's default is 1.
            gamma_neg: How much less easy negatives count: m^gamma_neg. The server's default is 4.
            clip: Negatives with a probability up to this cost nothing. The server's default is 0.05.
            reduction: As in `bce`.
            axis: As in `bce`.
            normalizer: As in `bce`.
            class_axis: As in `bce`.
            targets_format: As in `bce`.
            label_smoothing: As in `bce`.
            ignore_index: As in `bce`.
            background_index: As in `bce`.
            allow_nan: As in `bce`.

        Returns:
            As `bce`.

        Raises:
            TypeError: As `bce`.
            ValueError: As `bce`.
            LossdError: As `bce`.
        """
        return self._score(method_call("asymmetric", locals()))

    def varifocal(
        self,
        logits: Array | None = None,
        targets: Array | None = None,
        *,
        probabilities: Array | None = None,
        weight: Array | None = None,
        mask: Array | None = None,
        alpha: float | Default = DEFAULT,
        gamma: float | Default = DEFAULT,
        reduction: Reduction = "mean",
        axis: Axis = None,
        normalizer: Normalizer = "count",
        class_axis: int = -1,
        targets_format: TargetsFormat = "dense",
        ignore_index: IgnoreIndex = None,
        background_index: int | None = None,
        allow_nan: bool = False,
    ) -> AnswerT:
        """Varifocal loss.

        `q BCE(x, q)` for a target q over 0, else `alpha p^gamma BCE(x, 0)`, with p = sigmoid(x): for targets
        that are scores, such as the overlap of a box with its object.

        Args:
            logits: As in `bce`.
            targets: As in `bce`.
            probabilities: Instead of logits: each in [0, 1].
            weight: As in `bce`.
            mask: As in `bce`.
            alpha: What the loss of negatives is multiplied by. The server's default is 0.75.
            gamma: How much less easy negatives count: p^gamma. The server's default is 2.
            reduction: As in `bce`.
            axis: As in `bce`.
            normalizer: As in `bce`.
            class_axis: As in `bce`.
            targets_format: As in `bce`.
            ignore_index: As in `bce`.
            background_index: As in `bce`.
            allow_nan: As in `bce`.

        Returns:
            As `bce`.

        Raises:
            TypeError: As `bce`.
            ValueError: As `bce`.
            LossdError: As `bce`.
        """
        return self._score(method_call("varifocal", locals()))

    def cross_entropy(
        self,
        logits: Array | None = None,
        targets: Array | None = None,
        *,
        weight: Array | None = None,
        mask: Array | None = None,
        targets_format: Literal["dense", "index"] | None = None,
        label_smoothing: float = 0.0,
        class_weight: Array | None = None,
        reduction: Reduction = "mean",
        axis: Axis = None,
        normalizer: Normalizer = "count",
        class_axis: int = -1,
        ignore_index: IgnoreIndex = None,
        allow_nan: bool = False,
    ) -> AnswerT:
        """Cross entropy of classes.

        `-sum_c w_c y_c log p_c` for each row of C logits, with p = softmax(x) and class_weight w.

        Args:
            logits: The raw outputs, [N, C] or of more dimensions, with the classes along `class_axis`.
                Each row of C has one loss.
            targets: The class id of each row, or a probability of each class; see `targets_format`.
            weight: A factor for each loss, >= 0: broadcasts to the losses' shape.
            mask: Which losses count: broadcasts to the losses' shape.
            targets_format: `index`: targets holds the class id of each row, in the inputs' shape less
                `class_axis`. `dense`: a probability of every class, in the inputs' shape. By default
                whichever of the two shapes targets has.
            label_smoothing: Moves targets towards 1/C, by e: each target y becomes y (1 - e) + e / C,
                with C classes.
            class_weight: A weight for each class: a row counts with the weight of its target's class.
                With `normalizer=weight` the mean of class ids is torch's weighted mean.
            reduction: As in `bce`.
            axis: As in `bce`, of the losses.
            normalizer: As in `bce`.
            class_axis: As in `bce`.
            ignore_index: As in `bce`.
            allow_nan: As in `bce`.

        Returns:
            As `bce`.

        Raises:
            TypeError: As `bce`.
            ValueError: As `bce`.
            LossdError: As `bce`.
        """
        return self._score(method_call("cross_entropy", locals()))

    def softmax_focal(
        self,
        logits: Array | None = None,
        targets: Array | None = None,
        *,
        weight: Array | None = None,
        mask: Array | None = None,
        targets_format: Literal["dense", "index"] | None = None,
        label_smoothing: float = 0.0,
        gamma: float | Default = DEFAULT,
        alpha: Array | None = None,
        reduction: Reduction = "mean",
        axis: Axis = None,
        normalizer: Normalizer = "count",
        class_axis: int = -1,
        ignore_index: IgnoreIndex = None,
        allow_nan: bool = False,
    ) -> AnswerT:
        """Focal loss of classes.

        `-sum_c a_c y_c (1 - p_c)^gamma log p_c` for each row of C logits, with p = softmax(x): cross entropy
        in which rows that the model gets right count less.

        Args:
            logits: The raw outputs, [N, C] or of more dimensions, with the classes along `class_axis`.
                Each row of C has one loss.
            targets: The class id of each row, or a probability of each class; see `targets_format`.
            weight: A factor for each loss, >= 0: broadcasts to the losses' shape.
            mask: Which losses count: broadcasts to the losses' shape.
            targets_format: `index`: targets holds the class id of each row, in the inputs' shape less
                `class_axis`. `dense`: a probability of every class, in the inputs' shape. By default
                whichever of the two shapes targets has.
            label_smoothing: Moves targets towards 1/C, by e: each target y becomes y (1 - e) + e / C,
                with C classes.
            gamma: How much less easy rows count: (1 - p_c)^gamma. The server's default is 2.
            alpha: A factor for each class, by which the loss of its rows is multiplied; by default none.
                It is no weight: a mean with `normalizer=weight` does not divide by it.
            reduction: As in `bce`.
            axis: As in `bce`, of the losses.
            normalizer: As in `bce`.
            class_axis: As in `bce`.
            ignore_index: As in `bce`.
            allow_nan: As in `bce`.

        Returns:
            As `bce`.

        Raises:
            TypeError: As `bce`.
            ValueError: As `bce`.
            LossdError: As `bce`.
        """
        return self._score(method_call("softmax_focal", locals()))

    def dice(
        self,
        logits: Array | None = None,
        targets: Array | None = None,
        *,
        probabilities: Array | None = None,
        weight: Array | None = None,
        mask: Array | None = None,
        smooth: float | Default = DEFAULT,
        per: Literal["sample", "class", "all"] | Default = DEFAULT,
        reduction: Reduction = "mean",
        axis: Axis = None,
        normalizer: Normalizer = "count",
        class_axis: int = -1,
        targets_format: TargetsFormat = "dense",
        ignore_index: IgnoreIndex = None,
        background_index: int | None = None,
        allow_nan: bool = False,
    ) -> AnswerT:
        """Dice loss.

        `(alpha FP + beta FN) / (TP + alpha FP + beta FN + smooth)`, with the exact sums `TP = sum p y`, `FP =
        sum p (1 - y)` and `FN = sum (1 - p) y`, p = sigmoid(x), alpha = beta = 1/2.

        Args:
            logits: As in `bce`, [N, ...]: each of the N samples has one loss, or what `per` says.
            targets: As in `bce`.
            probabilities: Instead of logits: each in [0, 1].
            weight: A factor for each loss, >= 0: broadcasts to the losses' shape.
            mask: Which losses count: broadcasts to the losses' shape.
            smooth: Added to the divisor: the larger it is, the smaller are losses of small objects. With
                0 a sample without targets costs 1, unless every p is 0. The server's default is 1.
            per: One loss for each `sample`, an index of axis 0; for each `class`, over all samples; or
                for `all` together. The server's default is "sample".
            reduction: As in `bce`.
            axis: As in `bce`, of the losses.
            normalizer: As in `bce`.
            class_axis: As in `bce`.
            targets_format: As in `bce`.
            ignore_index: As in `bce`.
            background_index: As in `bce`.
            allow_nan: As in `bce`.

        Returns:
            As `bce`.

        Raises:
            TypeError: As `bce`.
            ValueError: As `bce`.
            LossdError: As `bce`.
        """
        return self._score(method_call("dice", locals()))

    def tversky(
        self,
        logits: Array | None = None,
        targets: Array | None = None,
        *,
        probabilities: Array | None = None,
        weight: Array | None = None,
        mask: Array | None = None,
        smooth: float | Default = DEFAULT,
        per: Literal["sample", "class", "all"] | Default = DEFAULT,
        alpha: float | Default = DEFAULT,
        beta: float | Default = DEFAULT,
        reduction: Reduction = "mean",
        axis: Axis = None,
        normalizer: Normalizer = "count",
        class_axis: int = -1,
        targets_format: TargetsFormat = "dense",
        ignore_index: IgnoreIndex = None,
        background_index: int | None = None,
        allow_nan: bool = False,
    ) -> AnswerT:
        """Tversky loss.

        `(alpha FP + beta FN) / (TP + alpha FP + beta FN + smooth)`, with the exact sums `TP = sum p y`, `FP =
        sum p (1 - y)` and `FN = sum (1 - p) y`, p = sigmoid(x): dice loss whose errors weigh differently.

        Args:
            logits: As in `bce`, [N, ...]: each of the N samples has one loss, or what `per` says.
            targets: As in `bce`.
            probabilities: Instead of logits: each in [0, 1].
            weight: A factor for each loss, >= 0: broadcasts to the losses' shape.
            mask: Which losses count: broadcasts to the losses' shape.
            smooth: Added to the divisor: the larger it is, the smaller are losses of small objects. With
                0 a sample without targets costs 1, unless every p is 0. The server's default is 1.
            per: One loss for each `sample`, an index of axis 0; for each `class`, over all samples; or
                for `all` together. The server's default is "sample".
            alpha: What false positives are multiplied by. The server's default is 0.5.
            beta: What false negatives are multiplied by. The server's default is 0.5.
            reduction: As in `bce`.
            axis: As in `bce`, of the losses.
            normalizer: As in `bce`.
            class_axis: As in `bce`.
            targets_format: As in `bce`.
            ignore_index: As in `bce`.
            background_index: As in `bce`.
            allow_nan: As in `bce`.

        Returns:
            As `bce`.

        Raises:
            TypeError: As `bce`.
            ValueError: As `bce`.
            LossdError: As `bce`.
        """
        return self._score(method_call("tversky", locals()))

    def squared(
        self,
        logits: Array | None = None,
        targets: Array | None = None,
        *,
        weight: Array | None = None,
        mask: Array | None = None,
        normalizer: Literal["count", "weight"] | float = "count",
        reduction: Reduction = "mean",
        axis: Axis = None,
        class_axis: int = -1,
        targets_format: TargetsFormat = "dense",
        ignore_index: IgnoreIndex = None,
        background_index: int | None = None,
        allow_nan: bool = False,
    ) -> AnswerT:
        """Squared error.

        `(x - y)^2`, for any finite targets.

        Args:
            logits: As in `bce`.
            targets: As in `bce`, but any finite numbers.
            weight: As in `bce`.
            mask: As in `bce`.
            normalizer: What a mean divides by. `count`: the number of losses; `weight`: the sum of their
                weights; or a number. Under `axis` each output has its own divisor.
            reduction: As in `bce`.
            axis: As in `bce`.
            class_axis: As in `bce`.
            targets_format: As in `bce`.
            ignore_index: As in `bce`.
            background_index: As in `bce`.
            allow_nan: As in `bce`.

        Returns:
            As `bce`.

        Raises:
            TypeError: As `bce`.
            ValueError: As `bce`.
            LossdError: As `bce`.
        """
        return self._score(method_call("squared", locals()))

    def hinge(
        self,
        logits: Array | None = None,
        targets: Array | None = None,
        *,
        weight: Array | None = None,
        mask: Array | None = None,
        reduction: Reduction = "mean",
        axis: Axis = None,
        normalizer: Normalizer = "count",
        class_axis: int = -1,
        targets_format: TargetsFormat = "dense",
        ignore_index: IgnoreIndex = None,
        background_index: int | None = None,
        allow_nan: bool = False,
    ) -> AnswerT:
        """Hinge loss.

        `max(0, 1 - (2 y - 1) x)`: nothing for an input that is right by a margin of 1.

        Args:
            logits: As in `bce`.
            targets: As in `bce`.
            weight: As in `bce`.
            mask: As in `bce`.
            reduction: As in `bce`.
            axis: As in `bce`.
            normalizer: As in `bce`.
            class_axis: As in `bce`.
            targets_format: As in `bce`.
            ignore_index: As in `bce`.
            background_index: As in `bce`.
            allow_nan: As in `bce`.

        Returns:
            As `bce`.

        Raises:
            TypeError: As `bce`.
            ValueError: As `bce`.
            LossdError: As `bce`.
        """
        return self._score(method_call("hinge", locals()))

    def box(
        self,
        boxes: Array | None = None,
        targets: Array | None = None,
        *,
        weight: Array | None = None,
        mask: Array | None = None,
        normalizer: Literal["count", "weight"] | float = "count",
        variant: Literal["iou", "giou", "diou", "ciou"] | Default = DEFAULT,
        format: Literal["xyxy", "cxcywh"] | Default = DEFAULT,  # noqa: A002 - the API's name
        reduction: Reduction = "mean",
        axis: Axis = None,
        allow_nan: bool = False,
    ) -> AnswerT:
        """Loss of boxes.

        `1 - v` of each box and its target, v being their overlap (IoU) or what `variant` makes of it.

        Args:
            boxes: The predicted boxes, [N, 4] or [..., 4]: floats.
            targets: The box of each prediction, in the same shape and format; corners in order.
            weight: A factor for each loss, >= 0: broadcasts to the losses' shape.
            mask: Which losses count: broadcasts to the losses' shape.
            normalizer: What a mean divides by. `count`: the number of losses; `weight`: the sum of their
                weights; or a number. Under `axis` each output has its own divisor.
            variant: `iou`: the boxes' overlap over their union; `giou`: IoU, less the part of the
                smallest enclosing box that neither box covers; `diou`: IoU, less the distance of their
                centres; `ciou`: less that and the difference of their shapes. The server's default is "iou".
            format: How a box is written: two corners, or its centre, width and height. The server's
                default is "xyxy".
            reduction: As in `bce`.
            axis: As in `bce`, of the losses.
            allow_nan: As in `bce`.

        Returns:
            As `bce`.

        Raises:
            TypeError: As `bce`.
            ValueError: As `bce`.
            LossdError: As `bce`.
        """
        return self._score(method_call("box", locals()))

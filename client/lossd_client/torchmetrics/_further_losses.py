# Written by `make reference` from lossd/core/catalog.py: change that.
"""The means of the further losses as metrics."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor

from lossd_client._calls.arrays import Array
from lossd_client._calls.parameters import DEFAULT, Default, IgnoreIndex, TargetsFormat
from lossd_client._deferred import KEEP_BYTES, OnError
from lossd_client.client import LossClient
from lossd_client.torchmetrics._means import Normalizer, RemoteMean
from lossd_client.torchmetrics._remote import parameters

__all__ = [
    "RemoteAsymmetric",
    "RemoteBox",
    "RemoteCrossEntropy",
    "RemoteDice",
    "RemoteHinge",
    "RemoteSoftmaxFocal",
    "RemoteSquared",
    "RemoteTversky",
    "RemoteVarifocal",
]


class RemoteAsymmetric(RemoteMean):
    """Mean of asymmetric over batches and ranks, computed by a server: one request an update.

    Its own arguments are those of `LossClient.asymmetric`, and all others those of `RemoteBCE`, as are
    states and errors.
    """

    _loss = "asymmetric"
    asymmetric_sum_digits: Tensor
    asymmetric_weight_digits: Tensor

    def __init__(
        self,
        client: LossClient | None = None,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        probabilities: bool = False,
        gamma_pos: float | Default = DEFAULT,
        gamma_neg: float | Default = DEFAULT,
        clip: float | Default = DEFAULT,
        normalizer: Normalizer = "count",
        class_axis: int = -1,
        targets_format: TargetsFormat = "dense",
        label_smoothing: float = 0.0,
        ignore_index: IgnoreIndex = None,
        background_index: int | None = None,
        allow_nan: bool = False,
        on_error: OnError = "raise",
        keep_bytes: int = KEEP_BYTES,
        **options: Any,  # noqa: ANN401 - torchmetrics'
    ) -> None:
        params = parameters(locals())
        super().__init__(client, base_url, api_key, probabilities, on_error, keep_bytes, params, options)

    @property
    def asymmetric_sum(self) -> Tensor:
        """The weighted losses of all batches, summed, as a float64 scalar."""
        return self._value("sum")

    @property
    def asymmetric_weight(self) -> Tensor:
        """What the mean divides `asymmetric_sum` by."""
        return self._value("weight")


class RemoteVarifocal(RemoteMean):
    """Mean of varifocal over batches and ranks, computed by a server: one request an update.

    Its own arguments are those of `LossClient.varifocal`, and all others those of `RemoteBCE`, as are
    states and errors.
    """

    _loss = "varifocal"
    varifocal_sum_digits: Tensor
    varifocal_weight_digits: Tensor

    def __init__(
        self,
        client: LossClient | None = None,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        probabilities: bool = False,
        alpha: float | Default = DEFAULT,
        gamma: float | Default = DEFAULT,
        normalizer: Normalizer = "count",
        class_axis: int = -1,
        targets_format: TargetsFormat = "dense",
        ignore_index: IgnoreIndex = None,
        background_index: int | None = None,
        allow_nan: bool = False,
        on_error: OnError = "raise",
        keep_bytes: int = KEEP_BYTES,
        **options: Any,  # noqa: ANN401 - torchmetrics'
    ) -> None:
        params = parameters(locals())
        super().__init__(client, base_url, api_key, probabilities, on_error, keep_bytes, params, options)

    @property
    def varifocal_sum(self) -> Tensor:
        """The weighted losses of all batches, summed, as a float64 scalar."""
        return self._value("sum")

    @property
    def varifocal_weight(self) -> Tensor:
        """What the mean divides `varifocal_sum` by."""
        return self._value("weight")


class RemoteCrossEntropy(RemoteMean):
    """Mean of cross_entropy over batches and ranks, computed by a server: one request an update.

    Its own arguments are those of `LossClient.cross_entropy`, and all others those of `RemoteBCE`, as are
    states and errors.
    """

    _loss = "cross_entropy"
    cross_entropy_sum_digits: Tensor
    cross_entropy_weight_digits: Tensor

    def __init__(
        self,
        client: LossClient | None = None,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        targets_format: Literal["dense", "index"] | None = None,
        label_smoothing: float = 0.0,
        class_weight: Array | None = None,
        normalizer: Normalizer = "count",
        class_axis: int = -1,
        ignore_index: IgnoreIndex = None,
        allow_nan: bool = False,
        on_error: OnError = "raise",
        keep_bytes: int = KEEP_BYTES,
        **options: Any,  # noqa: ANN401 - torchmetrics'
    ) -> None:
        params = parameters(locals())
        super().__init__(client, base_url, api_key, False, on_error, keep_bytes, params, options)

    @property
    def cross_entropy_sum(self) -> Tensor:
        """The weighted losses of all batches, summed, as a float64 scalar."""
        return self._value("sum")

    @property
    def cross_entropy_weight(self) -> Tensor:
        """What the mean divides `cross_entropy_sum` by."""
        return self._value("weight")


class RemoteSoftmaxFocal(RemoteMean):
    """Mean of softmax_focal over batches and ranks, computed by a server: one request an update.

    Its own arguments are those of `LossClient.softmax_focal`, and all others those of `RemoteBCE`, as are
    states and errors.
    """

    _loss = "softmax_focal"
    softmax_focal_sum_digits: Tensor
    softmax_focal_weight_digits: Tensor

    def __init__(
        self,
        client: LossClient | None = None,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        targets_format: Literal["dense", "index"] | None = None,
        label_smoothing: float = 0.0,
        gamma: float | Default = DEFAULT,
        alpha: Array | None = None,
        normalizer: Normalizer = "count",
        class_axis: int = -1,
        ignore_index: IgnoreIndex = None,
        allow_nan: bool = False,
        on_error: OnError = "raise",
        keep_bytes: int = KEEP_BYTES,
        **options: Any,  # noqa: ANN401 - torchmetrics'
    ) -> None:
        params = parameters(locals())
        super().__init__(client, base_url, api_key, False, on_error, keep_bytes, params, options)

    @property
    def softmax_focal_sum(self) -> Tensor:
        """The weighted losses of all batches, summed, as a float64 scalar."""
        return self._value("sum")

    @property
    def softmax_focal_weight(self) -> Tensor:
        """What the mean divides `softmax_focal_sum` by."""
        return self._value("weight")


class RemoteDice(RemoteMean):
    """Mean of dice over batches and ranks, computed by a server: one request an update.

    Its own arguments are those of `LossClient.dice` but `per`, and all others those of `RemoteBCE`, as are
    states and errors.
    """

    _loss = "dice"
    dice_sum_digits: Tensor
    dice_weight_digits: Tensor

    def __init__(
        self,
        client: LossClient | None = None,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        probabilities: bool = False,
        smooth: float | Default = DEFAULT,
        normalizer: Normalizer = "count",
        class_axis: int = -1,
        targets_format: TargetsFormat = "dense",
        ignore_index: IgnoreIndex = None,
        background_index: int | None = None,
        allow_nan: bool = False,
        on_error: OnError = "raise",
        keep_bytes: int = KEEP_BYTES,
        **options: Any,  # noqa: ANN401 - torchmetrics'
    ) -> None:
        params = parameters(locals())
        super().__init__(client, base_url, api_key, probabilities, on_error, keep_bytes, params, options)

    @property
    def dice_sum(self) -> Tensor:
        """The weighted losses of all batches, summed, as a float64 scalar."""
        return self._value("sum")

    @property
    def dice_weight(self) -> Tensor:
        """What the mean divides `dice_sum` by."""
        return self._value("weight")


class RemoteTversky(RemoteMean):
    """Mean of tversky over batches and ranks, computed by a server: one request an update.

    Its own arguments are those of `LossClient.tversky` but `per`, and all others those of `RemoteBCE`, as are
    states and errors.
    """

    _loss = "tversky"
    tversky_sum_digits: Tensor
    tversky_weight_digits: Tensor

    def __init__(
        self,
        client: LossClient | None = None,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        probabilities: bool = False,
        smooth: float | Default = DEFAULT,
        alpha: float | Default = DEFAULT,
        beta: float | Default = DEFAULT,
        normalizer: Normalizer = "count",
        class_axis: int = -1,
        targets_format: TargetsFormat = "dense",
        ignore_index: IgnoreIndex = None,
        background_index: int | None = None,
        allow_nan: bool = False,
        on_error: OnError = "raise",
        keep_bytes: int = KEEP_BYTES,
        **options: Any,  # noqa: ANN401 - torchmetrics'
    ) -> None:
        params = parameters(locals())
        super().__init__(client, base_url, api_key, probabilities, on_error, keep_bytes, params, options)

    @property
    def tversky_sum(self) -> Tensor:
        """The weighted losses of all batches, summed, as a float64 scalar."""
        return self._value("sum")

    @property
    def tversky_weight(self) -> Tensor:
        """What the mean divides `tversky_sum` by."""
        return self._value("weight")


class RemoteSquared(RemoteMean):
    """Mean of squared over batches and ranks, computed by a server: one request an update.

    Its own arguments are those of `LossClient.squared`, and all others those of `RemoteBCE`, as are
    states and errors.
    """

    _loss = "squared"
    squared_sum_digits: Tensor
    squared_weight_digits: Tensor

    def __init__(
        self,
        client: LossClient | None = None,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        normalizer: Literal["count", "weight"] = "count",
        class_axis: int = -1,
        targets_format: TargetsFormat = "dense",
        ignore_index: IgnoreIndex = None,
        background_index: int | None = None,
        allow_nan: bool = False,
        on_error: OnError = "raise",
        keep_bytes: int = KEEP_BYTES,
        **options: Any,  # noqa: ANN401 - torchmetrics'
    ) -> None:
        params = parameters(locals())
        super().__init__(client, base_url, api_key, False, on_error, keep_bytes, params, options)

    @property
    def squared_sum(self) -> Tensor:
        """The weighted losses of all batches, summed, as a float64 scalar."""
        return self._value("sum")

    @property
    def squared_weight(self) -> Tensor:
        """What the mean divides `squared_sum` by."""
        return self._value("weight")


class RemoteHinge(RemoteMean):
    """Mean of hinge over batches and ranks, computed by a server: one request an update.

    Its own arguments are those of `LossClient.hinge`, and all others those of `RemoteBCE`, as are
    states and errors.
    """

    _loss = "hinge"
    hinge_sum_digits: Tensor
    hinge_weight_digits: Tensor

    def __init__(
        self,
        client: LossClient | None = None,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        normalizer: Normalizer = "count",
        class_axis: int = -1,
        targets_format: TargetsFormat = "dense",
        ignore_index: IgnoreIndex = None,
        background_index: int | None = None,
        allow_nan: bool = False,
        on_error: OnError = "raise",
        keep_bytes: int = KEEP_BYTES,
        **options: Any,  # noqa: ANN401 - torchmetrics'
    ) -> None:
        params = parameters(locals())
        super().__init__(client, base_url, api_key, False, on_error, keep_bytes, params, options)

    @property
    def hinge_sum(self) -> Tensor:
        """The weighted losses of all batches, summed, as a float64 scalar."""
        return self._value("sum")

    @property
    def hinge_weight(self) -> Tensor:
        """What the mean divides `hinge_sum` by."""
        return self._value("weight")


class RemoteBox(RemoteMean):
    """Mean of box over batches and ranks, computed by a server: one request an update.

    Its own arguments are those of `LossClient.box`, and all others those of `RemoteBCE`, as are
    states and errors.
    """

    _loss = "box"
    box_sum_digits: Tensor
    box_weight_digits: Tensor

    def __init__(
        self,
        client: LossClient | None = None,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        normalizer: Literal["count", "weight"] = "count",
        variant: Literal["iou", "giou", "diou", "ciou"] | Default = DEFAULT,
        format: Literal["xyxy", "cxcywh"] | Default = DEFAULT,  # noqa: A002 - the API's name
        allow_nan: bool = False,
        on_error: OnError = "raise",
        keep_bytes: int = KEEP_BYTES,
        **options: Any,  # noqa: ANN401 - torchmetrics'
    ) -> None:
        params = parameters(locals())
        super().__init__(client, base_url, api_key, False, on_error, keep_bytes, params, options)

    @property
    def box_sum(self) -> Tensor:
        """The weighted losses of all batches, summed, as a float64 scalar."""
        return self._value("sum")

    @property
    def box_weight(self) -> Tensor:
        """What the mean divides `box_sum` by."""
        return self._value("weight")

"""The mean of each loss as a metric."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from lossd_client._calls.parameters import DEFAULT, Default, IgnoreIndex, TargetsFormat, Variant
from lossd_client._deferred import KEEP_BYTES, OnError
from lossd_client.client import LossClient
from lossd_client.torchmetrics._means import Normalizer, RemoteMean
from lossd_client.torchmetrics._remote import parameters


class RemoteBCE(RemoteMean):
    """Mean binary cross entropy over batches and ranks, computed by a server: one request an update.

    Its states are integers whatever the model's dtype, and sums exact: batches and ranks in any order and
    number give the bits of one request over everything. With `dist_sync_on_step`, torchmetrics makes
    two updates of each `forward`.

    Args:
        client: A client, which metrics may share.
        base_url: Without a client: the server's address, as for `LossClient`.
        api_key: Without a client: the key.
        probabilities: `preds` are probabilities, not logits.
        pos_weight: A factor for the positive term, one a class, or an array of more dimensions that
            broadcasts to every batch, such as [C, 1, 1].
        normalizer: What the mean divides by: the "count" of elements, the sum of the "weight", or the sum of
            the targets ("positives", at least 1).
        class_axis: The axis of the classes.
        targets_format: "dense" or "index".
        background_index: The class id of the background; see `LossClient.bce`.
        label_smoothing: e in [0, 1).
        ignore_index: The target whose elements are dropped.
        allow_nan: Let a NaN propagate.
        on_error: What an error of the network or of the server does. "raise" raises it. "warn" warns, once an
            outage, keeps the batch, and sends it with a later update or with `compute`: the mean is NaN until
            it is complete. What the server refuses is raised all the same. In a collection such a metric
            makes its own requests.
        keep_bytes: How much is kept: 32 MiB in memory, the rest in a temporary file. A batch for which there
            is no room is lost, with a warning, and the mean stays NaN until `reset`.
        options: Those of `torchmetrics.Metric`.

    Attributes:
        bce_sum_digits: The weighted losses of all batches, summed: int64 digits of 32 bits, which ranks
            add up without rounding.
        bce_weight_digits: What the mean divides the sum by, in the same form.
        bce_missing: First, how many batches these sums lack. States that are saved so stay incomplete where
            they are loaded; a pickled or copied metric keeps its batches.

    Raises:
        TypeError: There are both a client and a base_url or an api_key.
        ValueError: The normalizer is none of the loss's words, or base_url no address, or there is no such
            on_error.
    """

    _loss = "bce"
    bce_sum_digits: Tensor
    bce_weight_digits: Tensor

    def __init__(
        self,
        client: LossClient | None = None,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        probabilities: bool = False,
        pos_weight: float | Sequence[float] | Tensor | None = None,
        normalizer: Normalizer = "count",
        class_axis: int = -1,
        targets_format: TargetsFormat = "dense",
        background_index: int | None = None,
        label_smoothing: float = 0.0,
        ignore_index: IgnoreIndex = None,
        allow_nan: bool = False,
        on_error: OnError = "raise",
        keep_bytes: int = KEEP_BYTES,
        **options: Any,  # noqa: ANN401 - torchmetrics'
    ) -> None:
        params = parameters(locals())
        super().__init__(client, base_url, api_key, probabilities, on_error, keep_bytes, params, options)

    @property
    def bce_sum(self) -> Tensor:
        """The weighted losses of all batches, summed, as a float64 scalar."""
        return self._value("sum")

    @property
    def bce_weight(self) -> Tensor:
        """What the mean divides `bce_sum` by."""
        return self._value("weight")


class RemoteFocal(RemoteMean):
    """Mean focal loss over batches and ranks, computed by a server: one request an update.

    All arguments but these three are those of `RemoteBCE`, and so are the errors.

    Args:
        gamma: How much less easy elements count, 0 to 1000.
        alpha: The positives' share of the balance, in [0, 1], one number or one a class. None turns it off.
        variant: "sigmoid", "exp" or "quality"; see `LossClient.focal`.

    Attributes:
        focal_sum_digits: The weighted losses of all batches, summed: int64 digits of 32 bits, which ranks
            add up without rounding.
        focal_weight_digits: What the mean divides the sum by, in the same form.
        focal_missing: As in `RemoteBCE`.
    """

    _loss = "focal"
    focal_sum_digits: Tensor
    focal_weight_digits: Tensor

    def __init__(
        self,
        client: LossClient | None = None,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        probabilities: bool = False,
        gamma: float | Default = DEFAULT,
        alpha: float | Sequence[float] | Default | None = DEFAULT,
        variant: Variant | Default = DEFAULT,
        pos_weight: float | Sequence[float] | Tensor | None = None,
        normalizer: Normalizer = "count",
        class_axis: int = -1,
        targets_format: TargetsFormat = "dense",
        background_index: int | None = None,
        label_smoothing: float = 0.0,
        ignore_index: IgnoreIndex = None,
        allow_nan: bool = False,
        on_error: OnError = "raise",
        keep_bytes: int = KEEP_BYTES,
        **options: Any,  # noqa: ANN401 - torchmetrics'
    ) -> None:
        params = parameters(locals())
        super().__init__(client, base_url, api_key, probabilities, on_error, keep_bytes, params, options)

    @property
    def focal_sum(self) -> Tensor:
        """The weighted losses of all batches, summed, as a float64 scalar."""
        return self._value("sum")

    @property
    def focal_weight(self) -> Tensor:
        """What the mean divides `focal_sum` by."""
        return self._value("weight")

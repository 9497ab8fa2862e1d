"""The losses as metrics of torchmetrics, computed by a server: `pip install 'lossd[torchmetrics]'`.

metrics = MetricCollection([RemoteBCE(client), RemoteFocal(client, gamma=2.0)])
for images, targets in loader:
    metrics.update(model(images), targets)
print(metrics.compute())

This is the one module of the client that imports torch.
"""

import hashlib
import json
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from lossd_client._calls import DEFAULT, Default, IgnoreIndex, LossName, TargetsFormat, Variant
from lossd_client._exact_sum import ExactSum
from lossd_client.client import LossClient

Normalizer: TypeAlias = Literal["count", "weight", "positives"]
"""What a mean over many batches may divide by: a number would divide each batch again."""


class _RemoteLoss(Metric):
    """The base of the metrics: running sums, divided at the end."""

    is_differentiable = False
    higher_is_better = False
    full_state_update = False
    plot_lower_bound = 0.0

    _loss: ClassVar[LossName]

    def __init__(
        self,
        client: LossClient | None,
        base_url: str | None,
        api_key: str | None,
        probabilities: bool,
        params: Mapping[str, Any],
        options: Mapping[str, Any],
    ) -> None:
        super().__init__(**options)
        if client is not None and (base_url is not None or api_key is not None):
            raise TypeError("give a client, or base_url and api_key for one of the metric's own, not both")
        if params["normalizer"] not in ("count", "weight", "positives"):
            raise ValueError(
                f"normalizer must be 'count', 'weight' or 'positives', and is {params['normalizer']!r}; to "
                f"divide by a number, divide {self._loss}_sum"
            )
        self._client = client if client is not None else LossClient(base_url, api_key=api_key)
        self._told: set[str] = set()
        self._inputs = "probabilities" if probabilities else "logits"
        self._params = {**params, "pos_weight": _plain(params["pos_weight"])}
        # Metrics of different parameters may have equal sums after the first batch, and a MetricCollection
        # would then merge them: this state differs. It is the first, so that merging fails before any sum.
        about = json.dumps([self._inputs, self._params], sort_keys=True, default=_text)
        digest = torch.tensor(list(hashlib.sha256(about.encode()).digest()), dtype=torch.uint8)
        self.add_state(f"{self._loss}_parameters", digest, dist_reduce_fx=_the_same)
        for name in ("sum", "weight"):
            zero = torch.tensor(ExactSum().digits, dtype=torch.int64)
            self.add_state(f"{self._loss}_{name}_digits", zero, dist_reduce_fx="sum")

    @property
    def client(self) -> LossClient:
        """The metric's client; a copy of the metric has its own."""
        return self._client

    def update(
        self, preds: Tensor, target: Tensor, weight: Tensor | None = None, mask: Tensor | None = None
    ) -> None:
        """Add a batch by one request. Each note of its results is a warning, once.

        Args:
            preds: The model's outputs: logits, or probabilities if the metric was made for these. On any
                device; it is copied to this machine's memory if it is elsewhere.
            target: The targets, in the shape of `preds`, or class ids.
            weight: A factor for each element; broadcasts.
            mask: Which elements count; broadcasts.

        Raises:
            TypeError: A dtype is not allowed.
            LossdError: The server gave no answer; what was added before stays as it was.
        """
        score: Callable[..., Any] = self._client.bce if self._loss == "bce" else self._client.focal
        params = {name: value for name, value in self._params.items() if name != "normalizer"}
        tensors = {self._inputs: preds, "targets": target, "weight": weight, "mask": mask}
        result = score(**tensors, **params, reduction="sum")  # defined for a batch without elements, too
        for note in result.notes:
            if note not in self._told:
                warnings.warn(note, stacklevel=3)  # torchmetrics' wrapper is between
                self._told.add(note)
        added = {
            "count": [result.count],
            "weight": result.weight_sum_terms or [result.weight_sum],
            "positives": result.positives_terms or [result.positives],
        }
        self._add("sum", result.sum_terms or [result.sum])
        self._add("weight", added[self._params["normalizer"]])

    def compute(self) -> Tensor:
        """Return the mean over all batches of all ranks, a float64 scalar; NaN over nothing.

        It has the bits of one request over everything, however the batches were dealt out.
        """
        divisor = self._value("weight")
        if self._params["normalizer"] == "positives":
            divisor = divisor.clamp(min=1.0)
        return self._value("sum") / divisor

    def forward(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as torchmetrics has it
        """Add a batch and return its own mean; see `update`."""
        before = dict(self.__dict__)
        try:
            return super().forward(*args, **kwargs)
        except BaseException:  # torchmetrics empties the states first, and would leave them so
            self.__dict__.update(before)
            raise

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = "") -> "_RemoteLoss":
        """Move the states to a device; they stay integers whatever dtype is asked for."""

        def moved(tensor: Tensor) -> Tensor:
            there = fn(tensor)
            return there if there.dtype == tensor.dtype else tensor.to(there.device)

        super()._apply(moved, exclude_state)
        return self

    def _state(self, name: str) -> Tensor:
        state: Tensor = getattr(self, f"{self._loss}_{name}_digits")
        return state

    def _add(self, name: str, terms: Iterable[float]) -> None:
        state = self._state(name)
        digits = torch.tensor(ExactSum(terms).digits, dtype=torch.int64, device=state.device)
        # Not in place: torchmetrics may hold on to the tensor that was.
        setattr(self, f"{self._loss}_{name}_digits", state + digits)

    def _value(self, name: str) -> Tensor:
        """Return the sum, rounded once."""
        state = self._state(name)
        value = ExactSum.of_digits(state.tolist()).value
        return torch.tensor(value, dtype=torch.float64, device=state.device)


class RemoteBCE(_RemoteLoss):
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
        options: Those of `torchmetrics.Metric`.

    Attributes:
        bce_sum_digits: The weighted losses of all batches, summed: int64 digits of 32 bits, which ranks
            add up without rounding.
        bce_weight_digits: What the mean divides the sum by, in the same form.

    Raises:
        TypeError: There are both a client and a base_url or an api_key.
        ValueError: The normalizer is not one of the three, or base_url no address.
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
        **options: Any,  # noqa: ANN401 - torchmetrics'
    ) -> None:
        params = {
            "pos_weight": pos_weight,
            "normalizer": normalizer,
            "class_axis": class_axis,
            "targets_format": targets_format,
            "background_index": background_index,
            "label_smoothing": label_smoothing,
            "ignore_index": ignore_index,
            "allow_nan": allow_nan,
        }
        super().__init__(client, base_url, api_key, probabilities, params, options)

    @property
    def bce_sum(self) -> Tensor:
        """The weighted losses of all batches, summed, as a float64 scalar."""
        return self._value("sum")

    @property
    def bce_weight(self) -> Tensor:
        """What the mean divides `bce_sum` by."""
        return self._value("weight")


class RemoteFocal(_RemoteLoss):
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
        **options: Any,  # noqa: ANN401 - torchmetrics'
    ) -> None:
        params = {
            "gamma": gamma,
            "alpha": alpha,
            "variant": variant,
            "pos_weight": pos_weight,
            "normalizer": normalizer,
            "class_axis": class_axis,
            "targets_format": targets_format,
            "background_index": background_index,
            "label_smoothing": label_smoothing,
            "ignore_index": ignore_index,
            "allow_nan": allow_nan,
        }
        super().__init__(client, base_url, api_key, probabilities, params, options)

    @property
    def focal_sum(self) -> Tensor:
        """The weighted losses of all batches, summed, as a float64 scalar."""
        return self._value("sum")

    @property
    def focal_weight(self) -> Tensor:
        """What the mean divides `focal_sum` by."""
        return self._value("weight")


def _plain(pos_weight: float | Sequence[float] | Tensor | None) -> float | list[Any] | None:
    if pos_weight is None:
        return None
    plain: float | list[Any] = torch.as_tensor(pos_weight, dtype=torch.float64).tolist()
    return plain


def _text(value: object) -> object:
    return value.tolist() if isinstance(value, np.ndarray) else repr(value)


def _the_same(stacked: Tensor) -> Tensor:
    """Return the parameters that all ranks' metrics have in common."""
    first = stacked[0]
    if not bool((stacked == first).all()):
        raise ValueError("metrics that were made with different parameters cannot be merged")
    return first

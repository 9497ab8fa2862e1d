"""Means over batches and ranks, from exact sums."""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from lossd_client._calls.calls import batch_call, inputs_name
from lossd_client._calls.checks import check
from lossd_client._calls.parameters import LOSSES, LossName
from lossd_client._calls.shape_notes import mean_notes
from lossd_client._deferred import Kept, OnError
from lossd_client._exact_sum import ExactSum
from lossd_client.client import LossClient
from lossd_client.result import LossResult
from lossd_client.torchmetrics._remote import Remote

Normalizer: TypeAlias = Literal["count", "weight", "positives"]
"""What a mean over many batches may divide by: a number would divide each batch again."""


class RemoteMean(Remote):
    """The base of the means: running sums, divided at the end."""

    full_state_update = False
    plot_lower_bound = 0.0

    _loss: ClassVar[LossName]

    def __init__(
        self,
        client: LossClient | None,
        base_url: str | None,
        api_key: str | None,
        probabilities: bool,
        on_error: OnError,
        keep_bytes: int,
        params: Mapping[str, Any],
        options: Mapping[str, Any],
    ) -> None:
        inputs = inputs_name(self._loss, are_probabilities=probabilities)
        super().__init__(client, base_url, api_key, inputs, on_error, keep_bytes, options)
        words = LOSSES[self._loss].normalizers
        if params["normalizer"] not in words:
            raise ValueError(
                f"normalizer must be one of {', '.join(words)}, and is {params['normalizer']!r}; to divide "
                f"by a number, divide {self._loss}_sum"
            )
        self._params = params
        # Metrics of different parameters may have equal sums after the first batch, and a MetricCollection
        # would then merge them: this state differs. It is the first, so that merging fails before any sum.
        about = json.dumps([self._inputs, self._params], sort_keys=True, default=_text)
        digest = torch.tensor(list(hashlib.sha256(about.encode()).digest()), dtype=torch.uint8)
        self.add_state(f"{self._loss}_parameters", digest, dist_reduce_fx=_the_same)
        for name in ("sum", "weight"):
            zero = torch.tensor(ExactSum().digits, dtype=torch.int64)
            self.add_state(f"{self._loss}_{name}_digits", zero, dist_reduce_fx="sum")
        self._add_missing_state(f"{self._loss}_missing")

    def update(
        self, preds: Tensor, target: Tensor, weight: Tensor | None = None, mask: Tensor | None = None
    ) -> None:
        """Add a batch by one request. Each note of its results is a warning, once.

        Args:
            preds: The model's outputs: logits, or probabilities if the metric was made for these. On any
                device; it is copied to this machine's memory if it is elsewhere.
            target: The targets, in the shape of `preds`, or class ids.
            weight: A factor for each loss; broadcasts.
            mask: Which losses count; broadcasts.

        Raises:
            TypeError: A dtype is not allowed.
            LossdError: The server gave no answer; what was added before stays as it was. With
                `on_error="warn"`: the server refused this batch, or one that was kept, which is left out.
        """
        self._send_kept()
        params = {name: value for name, value in self._params.items() if name != "normalizer"}
        tensors = {self._inputs: preds, "targets": target, "weight": weight, "mask": mask}
        # The sum is defined for a batch without elements, too.
        call = check(batch_call(self._loss, tensors, {**params, "reduction": "sum"}))
        result = self._scored(call)
        self._warn(mean_notes(call, reduction="mean", normalizer=self._params["normalizer"]))
        if result is not None:
            self._add_result(result)
        self._raise_refused()

    def merge_state(self, incoming_state: dict[str, Any] | Metric) -> None:
        """Add the batches of another metric, kept ones too, or of its states; see `torchmetrics.Metric`."""
        super().merge_state(incoming_state)
        self._merge_kept(incoming_state)

    def _add_late(self, kept: Kept, result: LossResult | None) -> None:
        if result is not None:
            self._add_result(result)

    def _add_result(self, result: LossResult) -> None:
        self._warn(result.notes)
        added = {
            "count": [result.count],
            "weight": result.weight_sum_terms or [result.weight_sum],
            "positives": result.positives_terms or [result.positives],
        }
        self._add("sum", result.sum_terms or [result.sum])
        self._add("weight", added[self._params["normalizer"]])

    def compute(self) -> Tensor:
        """Return the mean over all batches of all ranks, a float64 scalar; NaN over nothing.

        It has the bits of one request over everything, however the batches were dealt out. With
        `on_error="warn"` what was kept is sent first; while batches are missing it is NaN, with a warning.
        """
        self._incomplete = self._missing
        divisor = self._value("weight")
        if self._params["normalizer"] == "positives":
            divisor = divisor.clamp(min=1.0)
        return self._value("sum") / divisor

    def _state(self, name: str) -> Tensor:
        state: Tensor = getattr(self, f"{self._loss}_{name}_digits")
        return state

    def _add(self, name: str, terms: Iterable[float]) -> None:
        state = self._state(name)
        digits = torch.tensor(ExactSum(terms).digits, dtype=torch.int64, device=state.device)
        # Not in place: torchmetrics may hold on to the tensor that was.
        setattr(self, f"{self._loss}_{name}_digits", state + digits)

    def _value(self, name: str) -> Tensor:
        """Return the sum, rounded once; NaN while batches are missing."""
        state = self._state(name)
        value = math.nan if self._missing else ExactSum.of_digits(state.tolist()).value
        return torch.tensor(value, dtype=torch.float64, device=state.device)


def _text(value: object) -> object:
    return value.tolist() if isinstance(value, np.ndarray) else repr(value)


def _the_same(stacked: Tensor) -> Tensor:
    """Return the parameters that all ranks' metrics have in common."""
    first = stacked[0]
    if not bool((stacked == first).all()):
        raise ValueError("metrics that were made with different parameters cannot be merged")
    return first

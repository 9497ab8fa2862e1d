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
from torchmetrics.utilities.distributed import gather_all_tensors

from lossd_client._calls.calls import batch_call
from lossd_client._calls.conversion import checked_report
from lossd_client._calls.labels import Column, Groups, Labels, columns_by_name
from lossd_client._calls.parameters import (
    DEFAULT,
    Bins,
    Default,
    IgnoreIndex,
    LossName,
    RowLoss,
    Sections,
    Sweep,
    TargetsFormat,
    Variant,
)
from lossd_client._calls.parameters import Normalizer as AnyNormalizer
from lossd_client._exact_sum import ExactSum
from lossd_client.client import LossClient
from lossd_client.report import Report
from lossd_client.result import LossResult

Normalizer: TypeAlias = Literal["count", "weight", "positives"]
"""What a mean over many batches may divide by: a number would divide each batch again."""


class _Remote(Metric):
    """The base of the metrics: a client, and states that no failure and no dtype changes."""

    is_differentiable = False
    higher_is_better = False

    def __init__(
        self, client: LossClient | None, base_url: str | None, api_key: str | None, options: Mapping[str, Any]
    ) -> None:
        super().__init__(**options)
        if client is not None and (base_url is not None or api_key is not None):
            raise TypeError("give a client, or base_url and api_key for one of the metric's own, not both")
        self._client = client if client is not None else LossClient(base_url, api_key=api_key)
        self._told: set[str] = set()

    @property
    def client(self) -> LossClient:
        """The metric's client; a copy of the metric has its own."""
        return self._client

    def forward(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as torchmetrics has it
        """Add a batch and return its own mean or report; see `update`."""
        before = dict(self.__dict__)
        try:
            return super().forward(*args, **kwargs)
        except BaseException:  # torchmetrics empties the states first, and would leave them so
            self.__dict__.update(before)
            raise

    def _warn(self, result: LossResult, stacklevel: int) -> None:
        """Warn of each note, once, where the metric is updated."""
        for note in result.notes:
            if note not in self._told:
                warnings.warn(note, stacklevel=stacklevel)
                self._told.add(note)

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = "") -> "_Remote":
        """Move the states to a device; they stay integers whatever dtype is asked for."""

        def moved(tensor: Tensor) -> Tensor:
            there = fn(tensor)
            return there if there.dtype == tensor.dtype else tensor.to(there.device)

        super()._apply(moved, exclude_state)
        return self


class _RemoteLoss(_Remote):
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
        params: Mapping[str, Any],
        options: Mapping[str, Any],
    ) -> None:
        super().__init__(client, base_url, api_key, options)
        if params["normalizer"] not in ("count", "weight", "positives"):
            raise ValueError(
                f"normalizer must be 'count', 'weight' or 'positives', and is {params['normalizer']!r}; to "
                f"divide by a number, divide {self._loss}_sum"
            )
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
        self._warn(result, 4)  # torchmetrics' wrapper is between
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


class RemoteReport(_Remote):
    """The report of a loss over batches and ranks, computed by a server: one request an update.

    The report of any batches on any ranks is that of one request over everything. `forward` makes two
    updates. Without `ids`, rows are numbered as they come, and those of rank r from r times 2**40.

    A distributed sampler pads what it deals out, so that each rank has as many rows: some rows come twice.
    With `drop_duplicates`, `update` leaves out rows whose ids have come before on this rank. When ranks are
    synchronised, they tell each other their ids. A row of a rank's last batch, where padding lies, is left
    out if it is in the last batch of an earlier rank, or in another batch of any: that rank scores its last
    batch again, without such rows, and keeps the batch until then. Any other row that two ranks have is no
    padding, and an error.

    Args:
        loss: "bce" or "focal".
        client: As in `RemoteBCE`.
        base_url: As in `RemoteBCE`.
        api_key: As in `RemoteBCE`.
        probabilities: As in `RemoteBCE`.
        sections: As in `LossClient.report`, and so are the next four.
        top: How many rows and elements of the greatest loss to list.
        row: A row's loss: "sum" or "mean".
        calibration_bins: How many, or "exact".
        sweep: Gammas to report on too.
        drop_duplicates: Leave out rows whose ids came before.
        gamma: As in `RemoteFocal`, and so are alpha and variant; for focal alone.
        alpha: See gamma.
        variant: See gamma.
        pos_weight: As in `RemoteBCE`, and so are all others.
        normalizer: What the mean divides by; a number, too.
        class_axis: The axis of the classes.
        targets_format: "dense" or "index".
        background_index: The class id of the background.
        label_smoothing: e in [0, 1).
        ignore_index: The target whose elements are dropped.
        allow_nan: Let a NaN propagate.
        options: Those of `torchmetrics.Metric`.

    Attributes:
        report_document: The report as JSON, in bytes; with `drop_duplicates` without the last batch.
        report_last: The last batch's, with `drop_duplicates`.
        report_ids: The ids of the rows in `report_document`, with `drop_duplicates`: two integers each, the
            id and 0, or the digest of a string.
        report_last_ids: The ids of the rows in `report_last`.

    Raises:
        TypeError: There are both a client and a base_url or an api_key.
        ValueError: base_url is no address.
    """

    full_state_update = True
    report_document: Tensor
    report_last: Tensor
    report_ids: Tensor
    report_last_ids: Tensor

    def __init__(
        self,
        loss: LossName,
        client: LossClient | None = None,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        probabilities: bool = False,
        sections: Sections = "all",
        top: int = 20,
        row: RowLoss = "sum",
        calibration_bins: Bins = 64,
        sweep: Sweep | None = None,
        drop_duplicates: bool = False,
        gamma: float | Default = DEFAULT,
        alpha: float | Sequence[float] | Default | None = DEFAULT,
        variant: Variant | Default = DEFAULT,
        pos_weight: float | Sequence[float] | Tensor | None = None,
        normalizer: AnyNormalizer = "count",
        class_axis: int = -1,
        targets_format: TargetsFormat = "dense",
        background_index: int | None = None,
        label_smoothing: float = 0.0,
        ignore_index: IgnoreIndex = None,
        allow_nan: bool = False,
        **options: Any,  # noqa: ANN401 - torchmetrics'
    ) -> None:
        super().__init__(client, base_url, api_key, options)
        self._loss: LossName = loss
        self._inputs = "probabilities" if probabilities else "logits"
        own = {"gamma": gamma, "alpha": alpha, "variant": variant}
        self._params = {
            **{name: value for name, value in own.items() if value is not DEFAULT},
            "pos_weight": _plain(pos_weight),
            "normalizer": normalizer,
            "class_axis": class_axis,
            "targets_format": targets_format,
            "background_index": background_index,
            "label_smoothing": label_smoothing,
            "ignore_index": ignore_index,
            "allow_nan": allow_nan,
            "sections": sections,
            "top": top,
            "row": row,
            "calibration_bins": calibration_bins,
            "sweep": sweep,
        }
        checked_report(batch_call(loss, {}, self._params).report)  # refuses what there is not
        self._drops = drop_duplicates
        self._sends_ids = not drop_duplicates or not {"all", "top"}.isdisjoint(
            sections.split(",") if isinstance(sections, str) else sections
        )
        self._last: tuple[dict[str, Any], Tensor] | None = None  # the last batch, and its rows' ids
        for name in ("report_document", "report_last"):
            self.add_state(name, torch.zeros(0, dtype=torch.uint8), dist_reduce_fx=_merged_bytes)
        for name in ("report_ids", "report_last_ids"):
            self.add_state(name, torch.zeros(0, 2, dtype=torch.int64), dist_reduce_fx=_united)

    def update(
        self,
        preds: Tensor,
        target: Tensor,
        weight: Tensor | None = None,
        mask: Tensor | None = None,
        *,
        groups: Groups | None = None,
        ids: Column | None = None,
        baseline: Tensor | None = None,
    ) -> None:
        """Add a batch by one request. Each note of its results is a warning, once.

        Args:
            preds: As in `RemoteBCE.update`.
            target: As in `RemoteBCE.update`.
            weight: As in `RemoteBCE.update`.
            mask: As in `RemoteBCE.update`.
            groups: A group for each row, or several; see `LossClient.report`.
            ids: An id for each row.
            baseline: The outputs of another model, like `preds`.

        Raises:
            TypeError: A dtype is not allowed.
            ValueError: A group or an id is missing; or ids are, with drop_duplicates; or, without it, an id
                is twice in the batch.
            LossdError: The server gave no answer; what was added before stays as it was.
        """
        tensors: dict[str, Any] = {self._inputs: preds, "targets": target, "weight": weight, "mask": mask}
        named = None if groups is None else columns_by_name(groups)  # which taking some rows would lose
        tensors |= {"groups": groups if named is None else named, "ids": ids, "baseline": baseline}
        if not self._drops:
            self.report_document = self._joined([self.report_document, self._score(tensors)])
            return
        if ids is None:
            raise ValueError("drop_duplicates goes by ids: give update(..., ids=...)")
        keys = _keys(ids).to(self.report_ids.device)
        seen = _united([self.report_ids, self.report_last_ids])
        rows = _first_rows(keys, without=seen)
        if not len(rows):
            return
        scored = self._score(_rows_of(tensors, rows))
        # From here on nothing fails.
        self.report_document = self._joined([self.report_document, self.report_last])
        self.report_ids = seen
        self.report_last, self.report_last_ids = scored, keys[rows]
        self._last = {name: _copied(value) for name, value in tensors.items()}, keys

    def compute(self) -> Report:
        """Return the report over all batches of all ranks.

        Raises:
            ValueError: There was no batch.
        """
        joined = self._joined([self.report_document, self.report_last])
        if not joined.numel():
            raise ValueError("no batch was added, of which there could be a report")
        return _report_in(joined)

    def reset(self) -> None:
        """Forget all batches."""
        super().reset()
        self._last = None

    def merge_state(self, incoming_state: dict[str, Any] | Metric) -> None:
        """Add the batches of another metric, or of its states.

        Raises:
            TypeError: It is another metric than a report.
            ValueError: It was made with different parameters; or rows of the same ids are in both.
        """
        if isinstance(incoming_state, Metric) and not isinstance(incoming_state, RemoteReport):
            raise TypeError(
                f"only a RemoteReport can be merged with one, not a {type(incoming_state).__name__}"
            )
        mine: dict[str, Any] = self.metric_state
        its: dict[str, Any] = (
            incoming_state.metric_state if isinstance(incoming_state, Metric) else incoming_state
        )
        ids = [_united([of["report_ids"], of["report_last_ids"]]) for of in (mine, its)]
        _refuse_common(ids)
        documents = [of[name] for of in (mine, its) for name in ("report_document", "report_last")]
        self.report_document = self._joined(documents)
        self.report_ids = _united(ids)
        self.report_last, self.report_last_ids = documents[1][:0], ids[0][:0]
        self._last = None
        self._computed = None

    def sync(
        self,
        dist_sync_fn: Callable[..., Any] | None = None,
        process_group: Any = None,  # noqa: ANN401 - torch's
        should_sync: bool = True,
        distributed_available: Callable[[], bool] | None = None,
    ) -> None:
        """Merge the ranks' reports; see `torchmetrics.Metric.sync`, and the class.

        Raises:
            ValueError: Ranks were made with different parameters, or have rows of the same ids that are no
                padding.
            LossdError: A last batch could not be scored again without its padding.
        """
        gather = dist_sync_fn or gather_all_tensors
        is_distributed = distributed_available or self.distributed_available_fn
        if self._drops and should_sync and not self._is_synced and is_distributed():
            self._drop_padding(lambda state: gather(state, group=process_group or self.process_group))
        super().sync(_padding(gather), process_group, should_sync, distributed_available)

    def _score(self, tensors: Mapping[str, Any]) -> Tensor:
        """Score a batch, and return its report in bytes."""
        first_row = _rank(self.process_group) << 40
        for state in (self.report_document, self.report_last):
            first_row += json.loads(_text_in(state))["totals"]["rows"] if state.numel() else 0
        if not self._sends_ids:  # the server has no use for them
            tensors = {**tensors, "ids": None}
        params = {**self._params, "first_row": first_row, "reduction": "sum"}
        result = self._client._score(batch_call(self._loss, tensors, params))
        self._warn(result, 5)
        assert result.report is not None
        document = result.report.to_dict()
        if not self._drops:  # else no two metrics of a collection would have the same states
            document["run"]["request_id"] = None
        return _as_bytes(document, self.report_document.device)

    def _joined(self, documents: Sequence[Tensor]) -> Tensor:
        return _merged_bytes([document for document in documents if document.numel()])

    def _drop_padding(self, gather: Callable[[Tensor], Sequence[Tensor]]) -> None:
        """Score the last batch again without the rows that are other ranks'."""
        settled, last = gather(self.report_ids), gather(self.report_last_ids)
        _refuse_common(settled)
        rank = _rank(self.process_group)
        taken = _united([*settled, *last[:rank]])
        rows = _first_rows(self.report_last_ids, without=taken)
        if len(rows) == len(self.report_last_ids):
            return
        if self._last is None:
            raise ValueError("the last batch, which has padding, is not there: these states were loaded")
        tensors, keys = self._last
        keys, kept = keys.to(self.report_last_ids.device), self.report_last_ids[rows]
        whole, self.report_last = self.report_last, self.report_last[:0]  # its rows are numbered anew
        try:
            if len(kept):
                self.report_last = self._score(_rows_of(tensors, _first_rows(keys, within=kept)))
        except BaseException:
            self.report_last = whole
            raise
        self.report_last_ids = kept


def _rank(group: Any) -> int:  # noqa: ANN401 - torch's
    distributed = torch.distributed
    return distributed.get_rank(group) if distributed.is_available() and distributed.is_initialized() else 0


_BLANK = ord(" ")  # JSON may be followed by it
_NO_ID = (0, 2)  # is the key of no id


def _as_bytes(document: Mapping[str, Any], device: torch.device) -> Tensor:
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    return torch.frombuffer(bytearray(text), dtype=torch.uint8).to(device)


def _text_in(state: Tensor) -> bytes:
    text: bytes = state.cpu().numpy().tobytes()
    return text


def _report_in(state: Tensor) -> Report:
    return Report(json.loads(_text_in(state)))


def _padding(gather: Callable[..., Sequence[Tensor]]) -> Callable[..., list[Tensor]]:
    """Return what gathers states of unlike lengths as torchmetrics wants them: of one length."""

    def gathered(state: Tensor, group: Any = None) -> list[Tensor]:  # noqa: ANN401 - torch's
        states = gather(state, group=group)
        blank = state.new_tensor(_BLANK if state.dim() == 1 else _NO_ID)
        longest = max(len(each) for each in states)
        return [torch.cat([each, blank.expand(longest - len(each), *each.shape[1:])]) for each in states]

    return gathered


def _merged_bytes(states: Tensor | Sequence[Tensor]) -> Tensor:
    """Return the report of several, each in bytes; none of none."""
    there = [state for state in states if bool((state != _BLANK).any())]
    if len(there) < 2:
        return there[0] if there else states[0][:0] if len(states) else torch.zeros(0, dtype=torch.uint8)
    return _as_bytes(Report.merge(map(_report_in, there)).to_dict(), there[0].device)


def _keys(ids: Column) -> Tensor:
    """Return two integers for each id, which no other id has: the number, or the digest of a string."""
    labels = Labels.of_ids(ids)
    numbers, [strings] = labels.numbers, labels.strings
    if strings is None:
        beyond = numbers > np.iinfo(np.int64).max
        return torch.from_numpy(np.stack([numbers.astype(np.int64), beyond.astype(np.int64)], axis=1))
    digests = b"".join(hashlib.blake2b(text.encode(), digest_size=16).digest() for text in strings)
    keys = np.frombuffer(digests, dtype="<i8").reshape(-1, 2) | np.array([0, 4])  # no number's
    return torch.from_numpy(keys[numbers].astype(np.int64))


def _united(keys: Tensor | Sequence[Tensor]) -> Tensor:
    """Return the keys of several, once each."""
    every = torch.cat(list(keys))
    united: Tensor = torch.unique(every[every[:, 1] != _NO_ID[1]], dim=0)
    return united


def _first_rows(keys: Tensor, *, without: Tensor | None = None, within: Tensor | None = None) -> Tensor:
    """Return the rows of the first of each key, without or within some keys, in order."""
    others = {tuple(key) for key in (without if within is None else within).tolist()}  # type: ignore[union-attr]
    first: dict[tuple[int, ...], int] = {}
    for row, key in enumerate(map(tuple, keys.tolist())):
        if (key in others) == (within is not None):
            first.setdefault(key, row)
    return torch.tensor(list(first.values()), dtype=torch.int64, device=keys.device)


def _refuse_common(ids: Sequence[Tensor]) -> None:
    """Refuse keys that are in several."""
    every = torch.cat(list(ids))
    found, counts = torch.unique(every, dim=0, return_counts=True)
    common = found[counts > 1]
    if len(common):
        number, kind = common[0].tolist()
        which = f", such as {number}" if kind == 0 else ""
        raise ValueError(
            f"{len(common)} rows{which} were scored more than once, in batches before the last of a rank: "
            "that is no padding, which a sampler puts at the end; give each row to one rank"
        )


def _rows_of(tensors: Mapping[str, Any], rows: Tensor) -> dict[str, Any]:
    """Return some rows of a batch's tensors; those that apply to every row as they are."""
    inputs = next(iter(tensors.values()))
    by_row = {"targets", "groups", "ids"}

    def taken(name: str, value: Any) -> Any:  # noqa: ANN401 - any array
        if value is None or (
            name not in by_row and (np.ndim(value) != inputs.ndim or len(value) != len(inputs))
        ):
            return value
        if isinstance(value, Mapping):
            return {key: taken(name, column) for key, column in value.items()}
        if isinstance(value, Tensor):
            return value[rows.to(value.device)]
        if isinstance(value, list | tuple):
            return [value[row] for row in rows.tolist()]
        return np.asarray(value)[rows.cpu().numpy()]

    return {name: taken(name, value) for name, value in tensors.items()}


def _copied(value: Any) -> Any:  # noqa: ANN401 - any array
    """Return what stays as it is when the caller uses its buffer again."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    return value.copy() if isinstance(value, np.ndarray) else value


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

"""The report of a loss as a metric."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.distributed import gather_all_tensors

from lossd_client._calls.calls import batch_call, inputs_name, loss_named
from lossd_client._calls.checks import check
from lossd_client._calls.conversion import checked_report
from lossd_client._calls.labels import Column, Groups, columns_by_name
from lossd_client._calls.parameters import (
    DEFAULT,
    LOSSES,
    REPORT,
    SHARED,
    Bins,
    Default,
    IgnoreIndex,
    LossName,
    Normalizer,
    RowLoss,
    Sections,
    Sweep,
    TargetsFormat,
)
from lossd_client._deferred import KEEP_BYTES, Kept, OnError
from lossd_client.client import LossClient
from lossd_client.report import Report
from lossd_client.result import LossResult
from lossd_client.torchmetrics._documents import as_bytes, merged_bytes, padded, report_in, text_in
from lossd_client.torchmetrics._remote import Remote, parameters
from lossd_client.torchmetrics._rows import copied, first_rows, keys_of, refuse_common, rows_of, united


class RemoteReport(Remote):
    """The report of a loss over batches and ranks, computed by a server: one request an update.

    The report of any batches on any ranks is that of one request over everything. `forward` makes two
    updates. Without `ids`, rows are numbered in the order of the updates, those of rank r from r times 2**40.

    A distributed sampler pads what it deals out, so that each rank has as many rows: some rows come twice.
    With `drop_duplicates`, `update` leaves out rows whose ids have come before on this rank. When ranks are
    synchronised, they tell each other their ids. A row of a rank's last batch, where padding lies, is left
    out if it is in the last batch of an earlier rank, or in another batch of any: that rank scores its last
    batch again, without such rows, and keeps the batch until then. Any other row that two ranks have is no
    padding, and an error.

    Args:
        loss: The loss, such as "bce".
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
        pos_weight: As in `RemoteBCE`, and so are all others.
        normalizer: What the mean divides by; a number, too.
        class_axis: The axis of the classes.
        targets_format: "dense" or "index".
        background_index: The class id of the background.
        label_smoothing: e in [0, 1).
        ignore_index: The target whose elements are dropped.
        allow_nan: Let a NaN propagate.
        on_error: As in `RemoteBCE`; what is not complete is None.
        keep_bytes: As in `RemoteBCE`.
        options: The loss's own parameters, such as gamma; and those of `torchmetrics.Metric`.

    Attributes:
        report_document: The report as JSON, in bytes; with `drop_duplicates` without the last batch.
        report_last: The last batch's, with `drop_duplicates`.
        report_ids: The ids of the rows in `report_document`, with `drop_duplicates`: two integers each, the
            id and 0, or the digest of a string.
        report_last_ids: The ids of the rows in `report_last`.
        report_missing: First, how many batches these lack; see `RemoteBCE`.

    Raises:
        TypeError: There are both a client and a base_url or an api_key.
        ValueError: base_url is no address, or there is no such on_error.
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
        pos_weight: float | Sequence[float] | Tensor | None = None,
        normalizer: Normalizer = "count",
        class_axis: int = -1,
        targets_format: TargetsFormat | Default = DEFAULT,
        background_index: int | None = None,
        label_smoothing: float = 0.0,
        ignore_index: IgnoreIndex = None,
        allow_nan: bool = False,
        on_error: OnError = "raise",
        keep_bytes: int = KEEP_BYTES,
        **options: Any,  # noqa: ANN401 - torchmetrics'
    ) -> None:
        params = parameters(locals())
        known = loss_named(loss)
        own = {name for each in LOSSES.values() for name in each.own}
        params |= parameters({name: options.pop(name) for name in own & options.keys()})
        # What the loss does not have is left out, unless it was given.
        params = {
            name: value
            for name, value in params.items()
            if name in (*known.parameters, *REPORT) or value != SHARED.get(name)
        }
        inputs = inputs_name(loss, are_probabilities=probabilities)
        super().__init__(client, base_url, api_key, inputs, on_error, keep_bytes, options)
        self._loss: LossName = loss
        self._params = params
        checked_report(batch_call(loss, {}, self._params).report)  # refuses what there is not
        known.refuse_joining(self._params, "reports of batches")
        self._drops = drop_duplicates
        names = sections.split(",") if isinstance(sections, str) else sections
        self._lists_ids = not {"all", "top"}.isdisjoint(names)
        self._sends_ids = not drop_duplicates or self._lists_ids
        self._last: tuple[dict[str, Any], Tensor] | None = None  # the last batch, and its rows' ids
        self._last_kept: int | None = (
            None  # the number of the last batch, if it is kept, with drop_duplicates
        )
        self._number = 0  # batches that were kept so far
        self._skipped = 0  # rows of kept batches that the server refused: their numbers stay theirs
        for name in ("report_document", "report_last"):
            self.add_state(name, torch.zeros(0, dtype=torch.uint8), dist_reduce_fx=merged_bytes)
        for name in ("report_ids", "report_last_ids"):
            self.add_state(name, torch.zeros(0, 2, dtype=torch.int64), dist_reduce_fx=united)
        self._add_missing_state("report_missing")

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
            LossdError: The server gave no answer; what was added before stays as it was. With
                `on_error="warn"`: the server refused this batch, or one that was kept, which is left out.
        """
        tensors: dict[str, Any] = {self._inputs: preds, "targets": target, "weight": weight, "mask": mask}
        named = None if groups is None else columns_by_name(groups)  # which taking some rows would lose
        tensors |= {"groups": groups if named is None else named, "ids": ids, "baseline": baseline}
        self._send_kept()
        if self._drops:
            self._update_by_ids(tensors)
        else:
            scored = self._score(tensors, [self.report_document])
            if scored is not None:
                self.report_document = self._joined([self.report_document, scored])
        self._raise_refused()

    def _update_by_ids(self, tensors: dict[str, Any]) -> None:
        """Add the rows of a batch whose ids have not come before."""
        if tensors["ids"] is None:
            raise ValueError("drop_duplicates goes by ids: give update(..., ids=...)")
        keys = keys_of(tensors["ids"]).to(self.report_ids.device)
        seen = united([self.report_ids, self.report_last_ids])
        rows = first_rows(keys, without=seen)
        if not len(rows):
            return
        scored = self._score(self._taken(tensors, rows), [self.report_document, self.report_last])
        # From here on nothing fails.
        self.report_document = self._joined([self.report_document, self.report_last])
        self.report_ids = seen
        self.report_last_ids = keys[rows]
        self.report_last = self.report_last[:0] if scored is None else scored
        if not self._is_alone:
            self._last_kept = self._number if scored is None else None
        self._last = {name: copied(value) for name, value in tensors.items()}, keys

    def compute(self) -> Report | None:
        """Return the report over all batches of all ranks.

        With `on_error="warn"` what was kept is sent first; while batches are missing it is None, with a
        warning.

        Raises:
            ValueError: There was no batch.
        """
        self._incomplete = self._missing
        if self._incomplete:
            return None
        joined = self._joined([self.report_document, self.report_last])
        if not joined.numel():
            raise ValueError("no batch was added, so there is no report")
        return report_in(joined)

    def reset(self) -> None:
        """Forget all batches."""
        super().reset()
        self._last = None
        if not self._in_forward:
            self._last_kept, self._skipped = None, 0

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
        ids = [united([of["report_ids"], of["report_last_ids"]]) for of in (mine, its)]
        refuse_common(ids)
        documents = [of[name] for of in (mine, its) for name in ("report_document", "report_last")]
        self.report_document = self._joined(documents)
        self.report_ids = united(ids)
        self.report_last, self.report_last_ids = documents[1][:0], ids[0][:0]
        self._count_missing(int(its.get("report_missing", [0])[0]))
        self._merge_kept(incoming_state)
        self._last = self._last_kept = None
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
            LossdError: A last batch could not be scored again without its padding; with `on_error="warn"` it
                is missing from what is synchronised instead.
        """
        gather = dist_sync_fn or gather_all_tensors
        is_distributed = distributed_available or self.distributed_available_fn
        unscored = False
        if self._drops and should_sync and not self._is_synced and is_distributed():
            unscored = self._drop_padding(
                lambda state: gather(state, group=process_group or self.process_group)
            )
        if not unscored:
            super().sync(padded(gather), process_group, should_sync, distributed_available)
            return
        self._count_missing(1)
        try:
            super().sync(padded(gather), process_group, should_sync, distributed_available)
        finally:  # this rank's own states are complete
            if self._cache is not None:
                self._cache["report_missing"][0] -= 1
            else:
                self._count_missing(-1)

    def _score(
        self, tensors: Mapping[str, Any], after: Sequence[Tensor], *, keeps: bool = True
    ) -> Tensor | None:
        """Score a batch, its rows numbered on after those of some documents and those that are kept.

        Returns:
            Its report in bytes; None if the server is away, and then the batch is kept if asked.
        """
        first_row = _rank(self.process_group) << 40
        for state in after:
            first_row += json.loads(text_in(state))["totals"]["rows"] if state.numel() else 0
        if self._outbox is not None and not self._is_alone:
            first_row += self._outbox.rows + self._skipped
        if not self._sends_ids:  # the server has no use for them
            tensors = {**tensors, "ids": None}
        params = {**self._params, "first_row": first_row, "reduction": "sum"}
        self._number += 1
        result = self._scored(check(batch_call(self._loss, tensors, params)), self._number, keeps=keeps)
        return None if result is None else self._document_of(result)

    def _taken(self, tensors: Mapping[str, Any], rows: Tensor) -> dict[str, Any]:
        """Return some rows of a batch's tensors."""
        inputs = np.ndim(tensors[self._inputs])
        return rows_of(tensors, rows, LOSSES[self._loss].dimensions(self._params, inputs))

    def _document_of(self, result: LossResult) -> Tensor:
        self._warn(result.notes)
        assert result.report is not None
        document = result.report.to_dict()
        if not self._drops:  # else no two metrics of a collection would have the same states
            document["run"] |= {"request_id": None, "request_ids": None, "started": None, "ended": None}
        return as_bytes(document, self.report_document.device)

    def _add_late(self, kept: Kept, result: LossResult | None) -> None:
        if result is None:
            self._skipped += kept.rows
        elif self._last_kept is not None and kept.tag == self._last_kept:
            self.report_last, self._last_kept = self._document_of(result), None
        else:
            self.report_document = self._joined([self.report_document, self._document_of(result)])

    def _joined(self, documents: Sequence[Tensor]) -> Tensor:
        return merged_bytes([document for document in documents if document.numel()])

    def _drop_padding(self, gather: Callable[[Tensor], Sequence[Tensor]]) -> bool:
        """Score the last batch again without the rows that are other ranks'.

        Returns:
            Whether that has still to be done, because the server is away.
        """
        settled, last = gather(self.report_ids), gather(self.report_last_ids)
        refuse_common(settled)
        rank = _rank(self.process_group)
        taken = united([*settled, *last[:rank]])
        rows = first_rows(self.report_last_ids, without=taken)
        if len(rows) == len(self.report_last_ids) or self._last_kept is not None:
            return False  # what is kept is missing anyway, and is sent before the next
        if self._last is None:
            raise ValueError("the last batch, which has padding, is not there: these states were loaded")
        tensors, keys = self._last
        keys, kept = keys.to(self.report_last_ids.device), self.report_last_ids[rows]
        last_batch: Tensor | None = self.report_last[:0]
        if len(kept):
            part = self._taken(tensors, first_rows(keys, within=kept))
            last_batch = self._score(part, [self.report_document], keeps=False)
        if last_batch is None:
            return True
        self.report_last, self.report_last_ids = last_batch, kept
        return False


def _rank(group: Any) -> int:  # noqa: ANN401 - torch's
    distributed = torch.distributed
    return distributed.get_rank(group) if distributed.is_available() and distributed.is_initialized() else 0

"""What the metrics have in common: a client, and states that no failure and no dtype changes."""

import functools
import secrets
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Self

import torch
from torch import Tensor
from torchmetrics import Metric

from lossd_client._calls.calls import LossCall
from lossd_client._calls.checks import check
from lossd_client._calls.parameters import DEFAULT
from lossd_client._deferred import Kept, OnError, Outbox, Room, checked_on_error
from lossd_client.client import LossClient
from lossd_client.errors import LossdError
from lossd_client.result import LossResult

_NOT_OF_THE_LOSS: Final = frozenset(
    {
        "self",
        "__class__",
        "loss",
        "client",
        "base_url",
        "api_key",
        "probabilities",
        "drop_duplicates",
        "on_error",
        "keep_bytes",
        "options",
    }
)


def parameters(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the loss's parameters among a constructor's arguments, `locals()` at its start.

    Those left at the server's default are left out. A tensor `pos_weight` becomes numbers.
    """
    given = {
        name: value
        for name, value in arguments.items()
        if name not in _NOT_OF_THE_LOSS and value is not DEFAULT
    }
    return given | {"pos_weight": _plain(given["pos_weight"])}


def _plain(pos_weight: float | Sequence[float] | Tensor | None) -> float | list[Any] | None:
    if pos_weight is None:
        return None
    plain: float | list[Any] = torch.as_tensor(pos_weight, dtype=torch.float64).tolist()
    return plain


class Remote(Metric):
    """The base of the metrics: a client, and states that no failure and no dtype changes.

    With `on_error="warn"` batches are kept while the server is away, and a state counts those that are
    missing: so every rank, copy and saved state knows that a value is not complete.
    """

    is_differentiable = False
    higher_is_better = False

    _missing_name: str  # the state that counts
    _patient = True  # whether `compute` waits for a server that is away, as the client's `Retry` says
    _is_of_callback = False  # which says itself what is missing

    def __init__(
        self,
        client: LossClient | None,
        base_url: str | None,
        api_key: str | None,
        probabilities: bool,
        on_error: OnError,
        keep_bytes: int,
        options: Mapping[str, Any],
    ) -> None:
        super().__init__(**options)
        if client is not None and (base_url is not None or api_key is not None):
            raise TypeError("give a client, or base_url and api_key for one of the metric's own, not both")
        keeps = checked_on_error(on_error)
        self._client = client if client is not None else LossClient(base_url, api_key=api_key)
        self._inputs = "probabilities" if probabilities else "logits"
        self._told: set[str] = set()
        self._outbox = Outbox(self._client, Room(keep_bytes)) if keeps else None
        self._refused: LossdError | None = None  # of a kept batch, and not raised yet
        self._incomplete = 0  # batches that the last `compute` did not have
        self._in_forward = False
        self._is_alone = False  # in `forward`, which adds a batch to empty states, having added it before

    def _add_missing_state(self, name: str) -> None:
        """Add the state that counts the missing batches."""
        self._missing_name = name
        self.add_state(name, _count_and_mark(self._outbox is not None), dist_reduce_fx=_counts_added)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if self._outbox is not None:  # a mark of its own
            mark = _count_and_mark(True)[1:].to(self.device)
            every: tuple[dict[str, Any], ...] = (self.__dict__, self._defaults)
            for states in every:
                states[self._missing_name] = torch.cat([states[self._missing_name][:1], mark])

    @property
    def client(self) -> LossClient:
        """The metric's client; a copy of the metric has its own."""
        return self._client

    def forward(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as torchmetrics has it
        """Add a batch and return its own mean or report; see `update`."""
        self._send_kept()
        before, kept = dict(self.__dict__), len(self._outbox or ())
        self._in_forward = True
        try:
            value = super().forward(*args, **kwargs)
        except BaseException:  # torchmetrics empties the states first, and would leave them so
            self.__dict__.update(before)
            if self._outbox is not None:
                self._outbox.cut(kept)
            raise
        self._in_forward = self._is_alone = False
        self._raise_refused()
        return value

    def reset(self) -> None:
        """Forget all batches, kept ones too."""
        super().reset()
        if self._in_forward:
            self._is_alone = bool(self.full_state_update or self.dist_sync_on_step)
        elif self._outbox is not None:
            self._outbox.cut(0)
            self._outbox.lost, self._refused, self._incomplete = 0, None, 0

    def _scored(self, call: LossCall, tag: object = None, *, keeps: bool = True) -> LossResult | None:
        """Score a batch; return None if the server is away, and then it is counted as missing and kept."""
        checked = check(call)
        if self._outbox is None:
            return self._client._score_plan(self._client._plan(checked))
        result = self._outbox.score(checked, tag, keeps=keeps and not self._is_alone)
        if result is None and keeps:
            self._count_missing(1)
        return result

    def _add_late(self, kept: Kept, result: LossResult | None) -> None:
        """Add the answer to a batch that was kept; None if the server refused it."""
        raise NotImplementedError

    def _send_kept(self, *, now: bool = False) -> None:
        """Send the batches that were kept, as far as the server answers."""
        if not self._outbox or self._in_forward or self._is_synced:
            return

        def add(kept: Kept, result: LossResult | None) -> None:
            if result is not None:
                self._warn(result, 6)
            self._add_late(kept, result)
            self._count_missing(-1)

        self._refused = self._outbox.send(add, now=now, patient=now and self._patient) or self._refused

    def _raise_refused(self) -> None:
        """Raise what the server said of a batch that was kept, now that all others are added."""
        if not self._in_forward and self._refused is not None:
            refused, self._refused = self._refused, None
            raise refused

    @property
    def _missing(self) -> int:
        """How many batches the states lack."""
        return int(getattr(self, self._missing_name)[0])

    def _count_missing(self, number: int) -> None:
        state = getattr(self, self._missing_name).clone()  # torchmetrics may hold on to the one that was
        state[0] += number
        setattr(self, self._missing_name, state)

    def _wrap_compute(self, compute: Callable[..., Any]) -> Callable[..., Any]:
        computed = super()._wrap_compute(compute)

        @functools.wraps(compute)
        def computing(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as torchmetrics has it
            self._send_kept(now=True)
            value = computed(*args, **kwargs)
            if self._incomplete:
                self._computed = None  # the next may have them
                if not self._in_forward and not self._is_of_callback:
                    warnings.warn(
                        f"{type(self).__name__}: {self._incomplete} batches are missing, "
                        "so there is no value; the server is away, or they are lost",
                        stacklevel=2,
                    )
            self._raise_refused()
            return value

        return computing

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:  # noqa: ANN401 - torch's
        if self._outbox is not None and prefix + self._missing_name in state_dict:
            self._outbox.cut(0)  # they belong to the states that are replaced
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _merge_kept(self, other: object) -> None:
        """Keep what another metric keeps, too."""
        if isinstance(other, Remote) and other._outbox is not None and self._outbox is not None:
            self._outbox.extend(other._outbox)

    def _warn(self, result: LossResult, stacklevel: int) -> None:
        """Warn of each note, once, where the metric is updated."""
        for note in result.notes:
            if note not in self._told:
                warnings.warn(note, stacklevel=stacklevel)
                self._told.add(note)

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = "") -> Self:
        """Move the states to a device; they stay integers whatever dtype is asked for."""

        def moved(tensor: Tensor) -> Tensor:
            there = fn(tensor)
            return there if there.dtype == tensor.dtype else tensor.to(there.device)

        super()._apply(moved, exclude_state)
        return self


def _count_and_mark(has_mark: bool) -> Tensor:
    """Return a count of 0, and a mark.

    A metric that keeps batches shares no states with others in a collection: another would not have them.
    """
    return torch.tensor([0, *(secrets.token_bytes(8) if has_mark else bytes(8))], dtype=torch.int64)


def _counts_added(stacked: Tensor) -> Tensor:
    return torch.cat([stacked[:, :1].sum(dim=0), stacked[0, 1:]])

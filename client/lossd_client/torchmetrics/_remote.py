"""What the metrics have in common: a client, and states that no failure and no dtype changes."""

import functools
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Self

import torch
from torch import Tensor
from torchmetrics import Metric

from lossd_client._calls.parameters import DEFAULT
from lossd_client._deferred import Deferring, OnError, Room, given_or_own
from lossd_client._outage import Urgency
from lossd_client._warning import warn
from lossd_client.client import LossClient

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

    Those left at the server's default are left out. A tensor becomes numbers.
    """
    return {
        name: _plain(name, value)
        for name, value in arguments.items()
        if name not in _NOT_OF_THE_LOSS and value is not DEFAULT
    }


def _plain(name: str, value: Any) -> Any:  # noqa: ANN401 - any parameter
    if isinstance(value, Tensor) or (name == "pos_weight" and value is not None):
        return torch.as_tensor(value, dtype=torch.float64).tolist()
    return value


class Remote(Deferring, Metric):
    """The base of the metrics: a client, and states that no failure and no dtype changes.

    With `on_error="warn"` batches are kept while the server is away, and a state counts those that are
    missing: so every rank, copy and saved state knows that a value is not complete.
    """

    is_differentiable = False
    higher_is_better = False

    _missing_name: str  # the state that counts
    _urgency = Urgency.PATIENT  # with which `compute` asks a server that is away

    def __init__(
        self,
        client: LossClient | None,
        base_url: str | None,
        api_key: str | None,
        inputs: str,
        on_error: OnError,
        keep_bytes: int,
        options: Mapping[str, Any],
    ) -> None:
        Metric.__init__(self, **options)
        room = Room.if_kept(on_error, keep_bytes)
        Deferring.__init__(self, given_or_own(client, base_url, api_key), room)
        self._inputs = inputs
        self._told: set[str] = set()
        self._incomplete = 0  # batches that the last `compute` did not have
        self._in_forward = False

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

    def _send_kept(self, urgency: Urgency = Urgency.ROUTINE) -> None:
        if not (self._in_forward or self._is_synced):
            super()._send_kept(urgency)

    def _raise_refused(self) -> None:
        if not self._in_forward:
            super()._raise_refused()

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
            self._send_kept(self._urgency)
            value = computed(*args, **kwargs)
            if self._incomplete:
                self._computed = None  # the next may have them
                if not self._in_forward:
                    self._tell_incomplete()
            self._raise_refused()
            return value

        return computing

    def _tell_incomplete(self) -> None:
        warn(
            f"{type(self).__name__}: {self._incomplete} batches are missing, so there is no value; the "
            "server is away, or they are lost"
        )

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:  # noqa: ANN401 - torch's
        if self._outbox is not None and prefix + self._missing_name in state_dict:
            self._outbox.cut(0)  # they belong to the states that are replaced
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _merge_kept(self, other: object) -> None:
        """Keep what another metric keeps, too."""
        if isinstance(other, Remote) and other._outbox is not None and self._outbox is not None:
            self._outbox.extend(other._outbox)

    def _warn(self, notes: Sequence[str]) -> None:
        """Warn of each note, once."""
        for note in notes:
            if note not in self._told:
                warn(note)
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

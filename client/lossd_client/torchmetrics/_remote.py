"""What the metrics have in common: a client, and states that no failure and no dtype changes."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Self

import torch
from torch import Tensor
from torchmetrics import Metric

from lossd_client._calls.parameters import DEFAULT
from lossd_client.client import LossClient
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
    """The base of the metrics: a client, and states that no failure and no dtype changes."""

    is_differentiable = False
    higher_is_better = False

    def __init__(
        self,
        client: LossClient | None,
        base_url: str | None,
        api_key: str | None,
        probabilities: bool,
        options: Mapping[str, Any],
    ) -> None:
        super().__init__(**options)
        if client is not None and (base_url is not None or api_key is not None):
            raise TypeError("give a client, or base_url and api_key for one of the metric's own, not both")
        self._client = client if client is not None else LossClient(base_url, api_key=api_key)
        self._inputs = "probabilities" if probabilities else "logits"
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

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = "") -> Self:
        """Move the states to a device; they stay integers whatever dtype is asked for."""

        def moved(tensor: Tensor) -> Tensor:
            there = fn(tensor)
            return there if there.dtype == tensor.dtype else tensor.to(there.device)

        super()._apply(moved, exclude_state)
        return self

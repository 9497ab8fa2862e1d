"""Rows of batches, told apart by their ids."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from lossd_client._calls.labels import Column, Labels

NO_ID: Final = (0, 2)  # is the key of no id


def keys_of(ids: Column) -> Tensor:
    """Return two integers for each id, which no other id has: the number, or the digest of a string."""
    labels = Labels.of_ids(ids)
    numbers, [strings] = labels.numbers, labels.strings
    if strings is None:
        beyond = numbers > np.iinfo(np.int64).max
        return torch.from_numpy(np.stack([numbers.astype(np.int64), beyond.astype(np.int64)], axis=1))
    digests = b"".join(hashlib.blake2b(text.encode(), digest_size=16).digest() for text in strings)
    keys = np.frombuffer(digests, dtype="<i8").reshape(-1, 2) | np.array([0, 4])  # no number's
    return torch.from_numpy(keys[numbers].astype(np.int64))


def united(keys: Tensor | Sequence[Tensor]) -> Tensor:
    """Return the keys of several, once each."""
    every = torch.cat(list(keys))
    each: Tensor = torch.unique(every[every[:, 1] != NO_ID[1]], dim=0)
    return each


def first_rows(keys: Tensor, *, without: Tensor | None = None, within: Tensor | None = None) -> Tensor:
    """Return the rows of the first of each key, without or within some keys, in order."""
    others = {tuple(key) for key in (without if within is None else within).tolist()}  # type: ignore[union-attr]
    first: dict[tuple[int, ...], int] = {}
    for row, key in enumerate(map(tuple, keys.tolist())):
        if (key in others) == (within is not None):
            first.setdefault(key, row)
    return torch.tensor(list(first.values()), dtype=torch.int64, device=keys.device)


def refuse_common(ids: Sequence[Tensor]) -> None:
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


def rows_of(tensors: Mapping[str, Any], rows: Tensor, losses: int) -> dict[str, Any]:
    """Return some rows of a batch's tensors; those that apply to every row as they are.

    Args:
        tensors: The tensors, the inputs first.
        rows: The rows.
        losses: The dimensions of the losses, which weights and masks have.
    """
    inputs = next(iter(tensors.values()))
    by_row = {"targets", "groups", "ids"}

    def taken(name: str, value: Any) -> Any:  # noqa: ANN401 - any array
        dimensions = losses if name in ("weight", "mask") else inputs.ndim
        if value is None or (
            name not in by_row and (np.ndim(value) != dimensions or len(value) != len(inputs))
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


def copied(value: Any) -> Any:  # noqa: ANN401 - any array
    """Return what stays as it is when the caller uses its buffer again."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    return value.copy() if isinstance(value, np.ndarray) else value

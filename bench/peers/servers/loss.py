"""The loss that every peer computes: torch's own mean, float32, one thread."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

torch.set_num_threads(1)

Tensor = torch.Tensor | npt.NDArray[np.generic]


def mean(logits: Tensor, targets: Tensor) -> float:
    """Compute the mean binary cross entropy of logits."""
    x, y = (torch.as_tensor(one) for one in (logits, targets))
    return float(torch.nn.functional.binary_cross_entropy_with_logits(x, y.to(x.dtype)))

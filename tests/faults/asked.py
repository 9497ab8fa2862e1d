"""What the fault tests ask for, and what is right."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

import reference
from faults.load import Load, Plan, Request, Shot, post
from faults.observe import port_of
from live_server import LiveServer
from wire.feeding import npy

T = TypeVar("T")

SOAK: Final = os.environ.get("LOSSD_SOAK") == "1"
"""Whether it may take an hour, as `make soak` does."""

Figures = tuple[object, object]


def scaled(short: T, full: T) -> T:
    """How much of something: in a usual run, and in a soak."""
    return full if SOAK else short


def pair(
    rows: int, columns: int = 80, seed: int = 0
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Logits, and targets of which one in twenty is 1."""
    random = np.random.default_rng(seed)
    x = random.normal(0, 3, (rows, columns)).astype(np.float32)
    return x, (random.random((rows, columns)) < 0.05).astype(np.float32)


def pair_body(rows: int, columns: int = 80, seed: int = 0) -> bytes:
    return b"".join(npy(array) for array in pair(rows, columns, seed))


SMALL: Final = (post("/focal", pair_body(32), name="focal"), post("/bce", pair_body(32), name="bce"))
"""32x80, one of each loss."""


def small_truth() -> dict[str, float]:
    """What SMALL comes to, by mpmath."""
    x, y = (array.ravel().tolist() for array in pair(32))
    return {
        name: float(sum(map(loss, x, y)) / len(x))
        for name, loss in (("focal", reference.focal), ("bce", reference.bce))
    }


def undisturbed(server: LiveServer, load: Load, requests: Iterable[Request] = SMALL) -> dict[str, Figures]:
    """What requests come to one after the other, with nothing else going on."""
    asked = list(requests)
    shots = load.run(Plan(port_of(server), asked, count=len(asked)))
    assert outcomes(shots) == {"ok": len(asked)}
    return {shot.name: shot.figures for shot in shots}


def outcomes(shots: Iterable[Shot]) -> dict[str, int]:
    """How often each came."""
    return dict(Counter(shot.code for shot in shots))


def wrong(shots: Iterable[Shot], right: Mapping[str, Figures]) -> int:
    """How many of the answers have other bits."""
    return sum(shot.status == 200 and shot.figures != right[shot.name] for shot in shots)


def percentile(values: Iterable[float], percent: float) -> float:
    """A percentile by rank; 0 of none."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(len(ranked) * percent / 100))] if ranked else 0.0

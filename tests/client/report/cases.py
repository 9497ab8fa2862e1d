"""Random rows for the tests of reports."""

from typing import Any

import numpy as np

from client.report.arrays import Case, Value


def random_case(seed: int, rows: int = 24, classes: int = 3, **more: Value) -> Case:
    """Rows of focal losses at gamma 1 and alpha 0.25, as far as a test reads them."""
    rng = np.random.default_rng(seed)
    shape = (rows, classes)
    x = rng.normal(size=shape).astype(np.float16).astype(np.float64)
    base_x = rng.normal(size=shape)
    made: dict[str, Any] = {
        "x": x,
        "y": (rng.random(shape) < 0.4).astype(np.float64),
        "v": np.round(rng.exponential(size=shape), int(rng.integers(1, 17))),
        "base_x": base_x,
        "base": np.round(rng.exponential(size=shape), 1),
        "cross": rng.exponential(size=shape),
    }
    return Case(**{**made, **more})


def wide_case(seed: int, **more: Value) -> Case:
    """Rows with everything that documents may have: weights, a mask, groups by two names, ids."""
    rng = np.random.default_rng(seed)
    rows = 30
    return random_case(
        seed,
        rows,
        **{
            "w": rng.random((rows, 3)),
            "kept": rng.random((rows, 3)) < 0.6,
            "groups": {
                "camera": rng.integers(-3, 3, rows).tolist(),
                "weather": ["rain", "sun", "é"] * (rows // 3),
            },
            "ids": (rng.permutation(rows) + 2**53 - 10).tolist(),
            **more,
        },
    )

"""BentoML: nested lists at /lists; .npy files as one octet stream, which it writes to a file, at /npy."""

import io
from pathlib import Path
from typing import Annotated

import bentoml
import numpy as np
from bentoml.validators import ContentType, DType

from bench.peers.servers.loss import mean

Floats = Annotated[np.ndarray, DType("float32")]


@bentoml.service(workers=1, traffic={"timeout": 600, "max_concurrency": 1000}, metrics={"enabled": False})
class Loss:
    """One model."""

    @bentoml.api  # type: ignore[untyped-decorator] # no types where it is not installed
    def lists(self, logits: Floats, targets: Floats) -> float:
        """Return the mean."""
        return mean(logits, targets)

    @bentoml.api  # type: ignore[untyped-decorator] # likewise
    def npy(self, body: Annotated[Path, ContentType("application/octet-stream")], /) -> float:
        """Return the mean."""
        file = io.BytesIO(body.read_bytes())
        return mean(np.load(file), np.load(file))

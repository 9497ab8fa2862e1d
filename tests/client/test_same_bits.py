"""Nothing but the numbers can change the answer: the same rows by every way there is, to the last bit."""

import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from core import scoring
from lossd.core.losses.kernel import TorchKernel
from lossd_client import LossClient, LossResult

ROWS, CLASSES = 1000, 12
RNG = np.random.default_rng(20)
X = (RNG.normal(scale=4, size=(ROWS, CLASSES)) * 10.0 ** RNG.integers(-3, 2, (ROWS, 1))).astype(np.float32)
Y = np.where(RNG.random((ROWS, CLASSES)) < 0.5, RNG.random((ROWS, CLASSES)), RNG.random((ROWS, 1)) < 0.3)

Loss = Literal["bce", "focal"]

RANK = """
import sys
from torch import distributed, from_numpy
from client.test_same_bits import ROWS, X, Y
from lossd_client import LossClient
from lossd_client.torchmetrics import RemoteBCE, RemoteFocal

rank, url, meeting = int(sys.argv[1]), sys.argv[2], sys.argv[3]
distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
with LossClient(url) as client:
    metric = {"bce": RemoteBCE, "focal": RemoteFocal}[sys.argv[4]](client)
    for start in range(70 * rank, ROWS, 140):
        metric.update(from_numpy(X[start : start + 70]), from_numpy(Y[start : start + 70]))
    print(float(metric.compute()).hex())
distributed.destroy_process_group()
"""


def by_two_ranks(base_url: str, loss: Loss, meeting: Path) -> list[float]:
    """The mean of batches that two processes share, as each of them has it."""
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(rank), base_url, str(meeting), loss],
            cwd=Path(__file__).parents[1],
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        return [float.fromhex(rank.communicate(timeout=90)[0]) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()


def by_torch(loss: Loss) -> float:
    """The mean by the losses' definition in torch, in this process."""
    figures = scoring.figures_by(TorchKernel(), scoring.work(loss, {"logits": X, "targets": Y}))
    return figures.sum.value / figures.count


def by_fractions(client: LossClient, loss: Loss) -> float:
    """The mean of the elements' own losses, added without rounding."""
    each = np.asarray(getattr(client, loss)(X, Y, reduction="none").loss)
    return float(sum(map(Fraction, each.ravel().tolist()), Fraction(0))) / each.size


@pytest.mark.parametrize("loss", ["bce", "focal"])
def test_every_way_comes_to_the_same_bits(base_url: str, tmp_path: Path, loss: Loss) -> None:
    order = RNG.permutation(ROWS)
    with LossClient(base_url) as client:
        score: Any = getattr(client, loss)
        whole = score(X, Y)
        rows = [(X[row : row + 1], Y[row : row + 1]) for row in order.tolist()]
        batches = [(X[start : start + 37], Y[start : start + 37]) for start in range(0, ROWS, 37)]
        found: dict[str, float | LossResult] = {
            "a thousand requests in another order": client.score_batches(loss, rows),
            "merged by the caller": LossResult.merge([score(*batch) for batch in batches[::-1]]),
            "one request, shuffled": score(X[order], Y[order]),
            "transposed": score(X.T, Y.T),
            "in wider numbers": score(X.astype(np.float64), Y),
            "an Arrow stream": client.score_stream(loss, batches),
            "in parts": getattr(client.with_options(request_bytes=5000), loss)(X, Y),
            "elements, as fractions": by_fractions(client, loss),
            "the definition in torch": by_torch(loss),
        }
    found |= {f"rank {rank}": mean for rank, mean in enumerate(by_two_ranks(base_url, loss, tmp_path / "m"))}
    assert {way: float(mean).hex() for way, mean in found.items()} == dict.fromkeys(found, float(whole).hex())

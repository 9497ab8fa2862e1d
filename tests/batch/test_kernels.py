"""Which kernel scores: the native one without torch, torch's for an operator's losses and for devices."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from lossd.batch import Partial, Scorer

FAULTS = Path(__file__).parents[1] / "faults"
TABLE = pa.table({"logits": np.linspace(-9, 9, 40), "targets": [0.0, 0.25, 0.5, 1.0] * 10})


def _run(code: str, data: bytes = b"", **environment: str) -> bytes:
    paths = [str(FAULTS), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **environment}
    done = subprocess.run(
        [sys.executable, "-c", code], input=data, capture_output=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def test_built_in_losses_need_neither_torch_nor_a_web_framework() -> None:
    code = """
import sys, pyarrow as pa
from lossd.batch import Scorer
Scorer("focal", sections="all").score(pa.table({"logits": [1.0, 2.0], "targets": [0, 1]})).result
print(sorted({"torch", "fastapi", "starlette", "uvicorn"} & sys.modules.keys()))
"""
    assert _run(code) == b"[]\n"


def test_an_operators_loss_is_known_where_its_scorer_is_sent() -> None:
    make = """
import pickle, sys
from lossd.batch import Scorer
sys.stdout.buffer.write(pickle.dumps(Scorer("brier", scale=2.0, sections="histogram")))
"""
    scorer = _run(make, LOSSD_LOSSES="extra_loss:BRIER")
    score = """
import pickle, sys, numpy as np, pyarrow as pa
from concurrent.futures import ThreadPoolExecutor
from lossd.batch import merge
scorer = pickle.loads(sys.stdin.buffer.read())
table = pa.table({"logits": np.linspace(-9, 9, 40), "targets": [0.0, 0.25, 0.5, 1.0] * 10})
with ThreadPoolExecutor(8) as pool:
    merged = merge(pool.map(scorer.score, [table.slice(i % 40, 1) for i in range(400)]), 400)
assert merged == merge([scorer.score(table)] * 10)
result = scorer.score(table.slice(0, 7)).merge(scorer.score(table.slice(7))).result
print(float(result), result.count, result.loss_name)
"""
    loss, count, name = _run(score, scorer).split()
    x, y = TABLE["logits"].to_numpy(), TABLE["targets"].to_numpy()
    assert float(loss) == pytest.approx(np.mean(2 * (y - 1 / (1 + np.exp(-x))) ** 2), rel=1e-14)
    assert (count, name) == (b"40", b"brier")


def test_a_device_that_is_not_there_is_named() -> None:
    scorer = Scorer("bce", device="cuda:99")  # which another machine may have
    with pytest.raises(
        RuntimeError, match=r"torch finds [0-9]+ CUDA devices? here, and cuda:99 is not among"
    ):
        scorer.score(TABLE)


@pytest.mark.parametrize(
    ("missing", "run", "told"),
    [
        ("pyarrow", "import lossd.batch", "lossd.batch needs pyarrow: pip install 'lossd[local]'"),
        ("msgspec", "import lossd.batch", "lossd.batch needs msgspec: pip install 'lossd[local]'"),
        (
            "dask",
            "import lossd.batch as b, lossd.batch.dask as d; d.score([], b.Scorer('bce'))",
            "lossd.batch.dask needs dask: pip install 'lossd[local,dask]'",
        ),
        ("ray", "import lossd.ray_serve", "lossd.ray_serve needs ray: pip install 'lossd[server,ray]'"),
    ],
)
def test_what_is_not_installed_is_named_with_its_extra(missing: str, run: str, told: str) -> None:
    code = f"""
import sys
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {missing!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Hide())
try:
    {run}
except ModuleNotFoundError as error:
    print(error)
"""
    assert _run(code).decode().strip() == told


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_device_gives_the_same_bytes() -> None:
    scorers = [Scorer("focal", sections="all", device=device) for device in ("cpu", "cuda:0")]
    cpu, gpu = (pickle.loads(pickle.dumps(scorer)).score(TABLE) for scorer in scorers)
    assert isinstance(cpu, Partial)
    assert cpu == gpu

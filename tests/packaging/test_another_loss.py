"""A loss more takes one function in torch, one in C, and one entry, in a copy of the sources.

There are two here, of elements and of rows: Huber's loss and Brier's score. Kernels, routes, documents,
formats and reports follow; what else a loss needs is named by the checks for it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from live_server import live_server
from scripts.build_native import NAME, NATIVE, NoCompilerError, compile_library, find_compiler

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

pytest.importorskip("torch")

ROOT: Final = Path(__file__).resolve().parents[2]
COPIED: Final = ("service", "client", "clients", "scripts", "bench", "tests", "docs", "examples")

ENTRIES: Final = """
    Loss(
        name="huber",
        title="Huber's loss",
        summary="`d^2 / 2` up to delta, and beyond `delta (d - delta / 2)`, of `d = |x - y|`.",
        shared=(*_REDUCED, *_TARGETS),
        inputs=("logits",),
        targets="number",
        without=("calibration", "sweep"),
        function="lossd.core.losses.huber:huber",
        nanoseconds=3.0,
        parameters=(_number("delta", 1.0, 0.0, 1e6, "Where squares end."), _NORMALIZER),
    ),
    Loss(
        name="brier",
        title="Brier's score",
        summary="`sum_c (p_c - y_c)^2` of each row of probabilities.",
        shared=_CLASSES,
        inputs=("probabilities",),
        row="classes",
        without=("classes", "calibration", "sweep"),
        function="lossd.core.losses.brier:brier",
        nanoseconds=3.0,
        parameters=(_BY_SHAPE,),
    ),
)

_losses: Final"""

HUBER: Final = '''"""Huber's loss."""

import torch
from torch import Tensor

from lossd.core.losses.elements import Formula, Smoothed


def huber(
    how: Formula, x: Tensor, y: Smoothed, k: Tensor | None, alpha: Tensor | None, *, hard: bool
) -> Tensor:
    """Return the losses."""
    delta = float(str(how.own["delta"]))
    gap = torch.abs(x - y.target.hi)
    return torch.where(gap <= delta, 0.5 * (gap * gap), delta * (gap - 0.5 * delta))
'''

BRIER: Final = '''"""Brier's score."""

import torch

from lossd.core.losses.elements import Formula
from lossd.core.losses.rows import RowLosses, Rows, exact_row_sums


def brier(how: Formula, rows: Rows) -> RowLosses:
    """Return the losses of some rows."""
    y = rows.y
    if rows.ids is not None:
        y = (torch.arange(rows.x.shape[1], device=rows.x.device) == rows.ids[:, None]).to(rows.x.dtype)
    gap = rows.x - y
    return RowLosses(exact_row_sums(gap * gap), exact_row_sums(y))
'''

HUBER_IN_C: Final = """
static void lossd_huber(const formula *how, int n, const double *restrict x, const double *restrict y,
                        const double *restrict k, const double *restrict a, double *restrict value)
{
    const double delta = how->own[0];
    (void)k;
    (void)a;
    for (int i = 0; i < n; i++) {
        double gap = fabs(x[i] - y[i]);
        value[i] = gap <= delta ? 0.5 * (gap * gap) : delta * (gap - 0.5 * delta);
    }
}
"""

BRIER_IN_C: Final = """
static int lossd_brier(const formula *how, rows *rows, const row_results *to)
{
    wide_sum loss, targets;
    (void)how;
    for (int i = 0; i < rows->count; i++) {
        clear_sum(&loss);
        clear_sum(&targets);
        for (int64_t from = 0; from < rows->size; from += BLOCK) {
            int n = rows->size - from < BLOCK ? (int)(rows->size - from) : BLOCK;
            if (!read_rows(rows, i * rows->size + from, n))
                return 0;
            if (rows->ids)
                for (int j = 0; j < n; j++)
                    rows->y[j] = (double)(from + j) == rows->ids[i];
            for (int j = 0; j < n; j++) {
                add_number(&loss, (rows->x[j] - rows->y[j]) * (rows->x[j] - rows->y[j]));
                add_number(&targets, rows->y[j]);
            }
        }
        to->loss[i] = round_sum(&loss);
        to->targets[i] = round_sum(&targets);
    }
    return 1;
}
"""

SAME_BITS: Final = """
import numpy as np
from core.scoring import KERNELS, figures_by, sums_by, work

assert [kernel.name for kernel in KERNELS] == ["native", "torch"]
rng = np.random.default_rng(0)
for loss, tensors in (
    ("huber", {"logits": rng.normal(0, 3, (3000, 7)), "targets": rng.normal(0, 3, (3000, 7))}),
    ("brier", {"probabilities": rng.random((500, 7)), "targets": rng.integers(0, 7, 500)}),
    ("brier", {"probabilities": rng.random((3, 5000)), "targets": rng.random((3, 5000))}),
):
    tensors["weight"] = rng.random((len(tensors["targets"]), *[1] * (loss == "huber")))
    job = work(loss, tensors, reduction="none")
    native, torch = (sums_by(kernel, job).tobytes() for kernel in KERNELS)
    assert native == torch, loss
    native, torch = (figures_by(kernel, work(loss, tensors)) for kernel in KERNELS)
    assert native.sum.value == torch.sum.value and native.positives.value == torch.positives.value
    assert native.weight_sum.value == torch.weight_sum.value and native.count == torch.count
"""


BY_CLIENT: Final = """
import sys
import numpy as np
from lossd_client import LossClient

with LossClient(sys.argv[1]) as client:
    assert client.huber([0.0, 3.0], [-0.5, 0.0], delta=2, reduction="sum").loss == 4.125
    result = client.brier(probabilities=np.eye(3)[:2], targets=[0, 2])
    assert (result.loss, result.count) == (1.0, 2)
"""


def write_losses(tree: Path) -> None:
    """Add the two losses to a copy of the sources: functions, names and entries."""
    torch = tree / "service/lossd/core/losses"
    torch.joinpath("huber.py").write_text(HUBER)
    torch.joinpath("brier.py").write_text(BRIER)
    native = tree / NATIVE
    native.joinpath("huber.h").write_text(HUBER_IN_C)
    native.joinpath("brier.h").write_text(BRIER_IN_C)
    _edit(
        native / "losses.h",
        '#include "rows.h"\n',
        '#include "rows.h"\n#include "huber.h"\n#include "brier.h"\n',
    )
    _edit(native / "catalog.h", "#define ELEMENT_LOSSES(X)", "#define ELEMENT_LOSSES(X) X(huber)")
    _edit(native / "catalog.h", "#define ROW_LOSSES(X)", "#define ROW_LOSSES(X) X(brier)")
    _edit(tree / "service/lossd/core/catalog.py", ")\n\n_losses: Final", ENTRIES.removeprefix("\n"))


def _edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert text.count(old) == 1, (file, old)
    file.write_text(text.replace(old, new))


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources that has the two losses, its kernel compiled."""
    try:
        compiler = find_compiler()
    except NoCompilerError as error:
        pytest.skip(f"a native loss needs a C compiler: {error}")
    tree = tmp_path_factory.mktemp("another")
    left = shutil.ignore_patterns("__pycache__", "node_modules", f"{NAME}*", ".*", "build", "dist")
    for name in COPIED:
        shutil.copytree(ROOT / name, tree / name, symlinks=True, ignore=left)
    for file in ("pyproject.toml", "Makefile"):
        shutil.copy(ROOT / file, tree)
    write_losses(tree)
    compile_library(tree / NATIVE, tree / NATIVE / NAME, compiler)
    return tree


def run(tree: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run Python in the copy, with the copy's packages."""
    places = [tree / "service", tree / "client", tree / "tests", tree]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, places))}
    return subprocess.run(
        [sys.executable, *command], cwd=tree, env=environment, capture_output=True, text=True, check=False
    )


def test_both_kernels_have_the_same_bits(tree: Path) -> None:
    done = run(tree, "-c", SAME_BITS)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def url(tree: Path) -> Iterator[str]:
    """A server of the copy."""
    modules = os.pathsep.join((str(tree / "service"), str(tree / "client")))
    with live_server(tree, modules=modules) as running:
        yield running.url


@pytest.fixture
def boards() -> dict[str, NDArray[Any]]:
    """Probabilities of three classes for ten rows, and their classes."""
    rng = np.random.default_rng(0)
    return {"probabilities": rng.dirichlet(np.ones(3), 10), "targets": rng.integers(0, 3, 10)}


def brier_of(boards: dict[str, NDArray[Any]]) -> NDArray[np.float64]:
    p, ids = boards["probabilities"], boards["targets"]
    found: NDArray[np.float64] = ((p - np.eye(3)[ids]) ** 2).sum(axis=1)
    return found


def test_json_is_scored(url: str, boards: dict[str, NDArray[Any]]) -> None:
    body = {"logits": [0.0, 3.0], "targets": [-0.5, 0.0], "reduction": "none", "delta": 2}
    assert httpx.post(f"{url}/huber", json=body).json()["loss"] == [0.125, 4.0]
    answer = httpx.post(f"{url}/brier", json={name: array.tolist() for name, array in boards.items()})
    assert answer.json()["loss"] == pytest.approx(brier_of(boards).mean(), rel=1e-15)
    assert answer.json()["count"] == 10
    assert answer.json()["kernel"] == "native"


def test_npy_and_reports_are_scored(url: str, boards: dict[str, NDArray[Any]]) -> None:
    body = BytesIO()
    for array in boards.values():
        np.save(body, array)
    answer = httpx.post(
        f"{url}/brier?tensors=probabilities,targets&reduction=none&report=top,histogram&top=1",
        content=body.getvalue(),
        headers={"Content-Type": "application/x-npy"},
    ).json()
    np.testing.assert_allclose(answer["loss"], brier_of(boards), rtol=1e-15)
    assert answer["report"]["top"]["rows"][0]["index"] == brier_of(boards).argmax()


def test_documents_name_them(url: str) -> None:
    losses = {loss["name"]: loss for loss in httpx.get(f"{url}/info").json()["losses"]}
    assert "delta" in str(losses["huber"])
    paths = httpx.get(f"{url}/openapi.json").json()["paths"]
    assert {"/huber", "/brier", "/v2/models/huber/infer"} <= set(paths)
    model = httpx.get(f"{url}/v2/models/brier").json()
    assert {"probabilities", "targets"} <= {tensor["name"] for tensor in model["inputs"]}


def test_the_clients_and_the_command_are_written(
    tree: Path, url: str, tmp_path: Path, boards: dict[str, NDArray[Any]]
) -> None:
    stale = run(tree, "-m", "scripts.client_losses", "--check")
    assert stale.returncode == 1
    assert "catalog.py: stale" in stale.stdout
    done = run(tree, "-m", "scripts.client_losses")
    assert done.returncode == 0, done.stderr
    done = run(tree, "-c", BY_CLIENT, url)
    assert done.returncode == 0, done.stderr
    for name, array in boards.items():
        np.save(tmp_path / f"{name}.npy", array)
    files = [str(tmp_path / f"{name}.npy") for name in boards]
    options = ("--loss", "brier", "--probabilities", "--json", "--url", url)
    done = run(tree, "-m", "lossd", "score", *files, *options)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["loss"] == pytest.approx(brier_of(boards).mean(), rel=1e-12)


@pytest.mark.parametrize(
    "check",
    [
        "tests/core/test_self_test.py::test_every_built_in_loss_has_known_answers",
        "tests/packaging/test_bench.py::test_every_loss_has_a_rival_in_torch",
        "tests/client/test_fake_losses.py::test_the_fake_has_every_loss",
    ],
)
def test_what_stays_to_be_written_is_named(tree: Path, check: str) -> None:
    done = run(tree, "-m", "pytest", "-q", "-p", "no:cacheprovider", check)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "huber" in done.stdout
    assert "brier" in done.stdout

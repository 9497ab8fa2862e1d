"""`--out` holds what the API answers to the same question, to the last bit, in every format."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from client.cli.scored import answer, refused, run
from lossd_client import LossClient
from lossd_client.cli.inputs import blocks as inputs

random = np.random.default_rng(4)
DENSE = random.normal(size=(60, 4)), random.random((60, 4)) < 0.3
IDS = random.normal(size=(60, 4, 3)), random.integers(-1, 5, size=(60, 3))
AXES, NORMALIZERS = ("0", "1", "-1", "0,1"), ("count", "weight", "positives", "64")
QUESTIONS: list[tuple[list[str], dict[str, Any]]] = [
    ([], {}),
    (["--reduction", "sum"], {"reduction": "sum"}),
    (["--reduction", "none"], {"reduction": "none"}),
    *(
        (
            ["--reduction", reduction, "--axis", axis, "--normalizer", normalizer],
            {
                "reduction": reduction,
                "axis": [int(one) for one in axis.split(",")],
                "normalizer": float(normalizer) if normalizer == "64" else normalizer,
            },
        )
        for reduction, axis, normalizer in [
            *product(["mean"], AXES, NORMALIZERS),
            *zip(["sum"] * 4, AXES, NORMALIZERS, strict=True),  # a sum is divided by nothing
        ]
    ),
    (["--axis", "0,2"], {"axis": [0, 2]}),
    (["--axis", "1,2", "--normalizer", "positives"], {"axis": [1, 2], "normalizer": "positives"}),
]


@pytest.fixture
def client(base_url: str) -> Iterator[LossClient]:
    with LossClient(base_url) as opened:
        yield opened


@pytest.fixture(params=[8 << 20, 700], ids=["one request", "many blocks"])
def in_blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(inputs, "BLOCK_BYTES", request.param)
    return bool(request.param < 1000)


@pytest.mark.parametrize("targets_format", ["dense", "index"])
@pytest.mark.parametrize(
    ("options", "params"), QUESTIONS, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_it_is_what_the_api_answers(
    tmp_path: Path,
    client: LossClient,
    in_blocks: bool,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    params: dict[str, Any],
    targets_format: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    x, y = DENSE if targets_format == "dense" else IDS
    if max(params.get("axis", [0])) > x.ndim - 1:
        x, y = x[:, :, None], y[:, :, None]
    if targets_format == "index":
        options = [*options, "--targets-format", "index", "--class-axis", "1", "--background-index", "4"]
        params = params | {"targets_format": "index", "class_axis": 1, "background_index": 4}
        ignored = -1 if 0 in params.get("axis", [0]) else 2  # all classes of a row may be: no mean over these
        y = np.where(y == -1, ignored, y)
        options, params = [*options, "--ignore-index", "-1"], params | {"ignore_index": -1}
    np.save("x.npy", x)
    np.save("y.npy", y)
    expected = np.asarray(client.bce(x, y, **params).loss)
    for suffix in ("npy", "csv", "json"):
        done = run(client.base_url, "x.npy", "y.npy", *options, "--out", f"out.{suffix}")
        assert (done.exit_code, done.stderr) == (0, "")
    found = np.load("out.npy")
    assert found.dtype == np.float64
    assert found.shape == expected.shape
    is_added = in_blocks and 0 in params.get("axis", [0]) and params.get("reduction") != "none"
    if is_added:  # sums of blocks, added in another order
        np.testing.assert_allclose(found, expected, rtol=1e-13)
    else:
        np.testing.assert_array_equal(found, expected, strict=True)
    assert_csv(found, params, x.ndim)
    written = json.loads(Path("out.json").read_text())
    np.testing.assert_array_equal(np.array(written["loss"]), found, strict=True)
    printed = answer(client.base_url, "x.npy", "y.npy", *options)
    changing = {"timing", "request_id"}
    assert {name: value for name, value in written.items() if name not in changing} == {
        name: value for name, value in printed.items() if name not in changing
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "out.csv",
        "out.json",
        "out.npy",
        "x.npy",
        "y.npy",
    ]


def assert_csv(losses: NDArray[Any], params: Mapping[str, Any], dimensions: int) -> None:
    with Path("out.csv").open(newline="") as file:
        names, *rows = list(csv.reader(file))
    reduced = [axis % dimensions for axis in params.get("axis", range(dimensions))]
    if params.get("reduction") == "none":
        reduced = []
    left = [axis for axis in range(dimensions) if axis not in reduced]
    assert names == [*("row" if axis == 0 else f"axis{axis}" for axis in left), "loss"]
    assert len(rows) == losses.size
    for *place, loss in rows:
        assert float(loss) == losses[tuple(map(int, place))]


@pytest.mark.parametrize("suffix", ["npy", "csv", "json"])
def test_losses_that_are_not_finite(tmp_path: Path, base_url: str, suffix: str) -> None:
    x = np.array([math.inf, -math.inf, math.nan, 0.0])
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", np.array([0, 0, 1, 1]))
    out = tmp_path / f"out.{suffix}"
    done = run(
        base_url, tmp_path / "x.npy", tmp_path / "y.npy", "--allow-nan", "--reduction", "none", "--out", out
    )
    assert done.exit_code == 0
    right = [math.inf, 0.0, math.nan, math.log(2)]
    if suffix == "npy":
        np.testing.assert_allclose(np.load(out), right, rtol=1e-15)
    elif suffix == "csv":
        assert out.read_text().splitlines()[:4] == ["row,loss", "0,inf", "1,0.0", "2,nan"]
    else:
        loss = json.loads(out.read_text())["loss"]
        assert (loss[:3], loss[3]) == (["Infinity", 0.0, "NaN"], pytest.approx(math.log(2), rel=1e-15))


def test_no_rows(tmp_path: Path, base_url: str) -> None:
    np.savez(tmp_path / "t.npz", logits=np.zeros((0, 3)), targets=np.zeros((0, 3)))
    for suffix in ("npy", "csv", "json"):
        out = tmp_path / f"out.{suffix}"
        assert run(base_url, tmp_path / "t.npz", "--reduction", "none", "--out", out).exit_code == 0
    assert np.load(tmp_path / "out.npy").shape == (0, 3)
    assert (tmp_path / "out.csv").read_text() == "row,axis1,loss\n"
    assert json.loads((tmp_path / "out.json").read_text())["loss"] == []


@pytest.mark.usefixtures("in_blocks")
def test_losses_of_groups(tmp_path: Path, base_url: str) -> None:
    x, y = DENSE
    site, day = np.array(["b", "a"])[np.arange(60) % 2], np.arange(60) // 30
    np.savez(tmp_path / "t.npz", logits=x, targets=y, site=site, day=day)
    command = [tmp_path / "t.npz", "--by", "site", "--by", "day", "--loss", "focal"]
    for suffix in ("csv", "json"):
        assert run(base_url, *command, "--out", tmp_path / f"out.{suffix}").exit_code == 0
    groups = answer(base_url, *command)["groups"]
    assert [group["group"] for group in groups] == [["a", 0], ["a", 1], ["b", 0], ["b", 1]]
    assert json.loads((tmp_path / "out.json").read_text())["groups"] == groups
    with (tmp_path / "out.csv").open(newline="") as file:
        names, *rows = list(csv.reader(file))
    assert names == ["site", "day", "loss", "sum", "count", "weight_sum", "positives"]
    assert [(row[0], int(row[1]), float(row[2]), int(row[4])) for row in rows] == [
        (*group["group"], group["loss"], group["count"]) for group in groups
    ]
    assert "which group a loss is of" in refused(base_url, *command, "--out", tmp_path / "out.npy")


@pytest.mark.parametrize("name", ["out", "out.txt", "out.npz", "out.parquet", "out.npy.gz"])
def test_another_suffix_is_refused_before_anything_is_sent(tmp_path: Path, name: str) -> None:
    message = refused("http://127.0.0.1:1", "x.npy", "y.npy", "--out", tmp_path / name)
    assert "its name must end in .npy, .csv, .json" in message
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("in_blocks")
def test_a_pipe_gets_all_losses(tmp_path: Path, client: LossClient) -> None:
    import os
    import threading

    np.savez(tmp_path / "t.npz", logits=DENSE[0], targets=DENSE[1])
    os.mkfifo(tmp_path / "pipe")
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    done = run(client.base_url, tmp_path / "t.npz", "--reduction", "none", "--out", tmp_path / "pipe")
    reader.join(30)
    assert done.exit_code == 0
    (tmp_path / "got.npy").write_bytes(got[0])
    expected = client.bce(*DENSE, reduction="none").loss
    np.testing.assert_array_equal(np.load(tmp_path / "got.npy"), expected)

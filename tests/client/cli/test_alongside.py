"""What two files both have tells whether their rows go together; rows in another order are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from client.cli.scored import answer, bce, refused

ROWS = 300
random = np.random.default_rng(9)
X = random.normal(size=ROWS)
Y = random.random(ROWS) < 0.4
W = random.random(ROWS)
IMG = np.array([f"img_{row:04}" for row in range(ROWS)])
ORDER = random.permutation(ROWS)
PLACE = np.arange(ROWS)
RIGHT = bce(X, Y).mean()
FIRST = int(np.flatnonzero(ORDER != PLACE)[0])


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(name: str, **columns: Any) -> None:  # noqa: ANN401 - what a column is made of
    named = {"Unnamed: 0" if column == "unnamed" else column: values for column, values in columns.items()}
    if name.endswith(".npz"):
        np.savez(name, **named)
        return
    found = pa.table(
        {column: values.astype(int) if column == "targets" else values for column, values in named.items()}
    )
    (csv.write_csv if name.endswith(".csv") else parquet.write_table)(found, name)


@pytest.mark.parametrize("kind", ["csv", "parquet", "npz"])
@pytest.mark.parametrize("index", [{"unnamed": PLACE}, {"index": PLACE}, {}])
def test_the_same_values_in_another_order_are_refused(
    base_url: str, kind: str, index: dict[str, Any]
) -> None:
    x, y = f"x.{kind}", f"y.{kind}"
    write(x, **index, img=IMG, logits=X)
    write(y, **index, img=IMG[ORDER], targets=Y[ORDER])
    message = refused(base_url, x, y)
    assert f"{x} and {y} both have img, with the same values in another order" in message
    assert f"row {FIRST} of {x} has {IMG[FIRST]}, what goes with it {IMG[ORDER[FIRST]]}" in message
    assert "--id img" in message
    assert answer(base_url, x, y, "--id", "img")["loss"] == pytest.approx(RIGHT, rel=1e-14)


def test_columns_that_are_moved_with_their_ids_are_fine(base_url: str) -> None:
    write("x.csv", id=PLACE, img=IMG, epoch=W, logits=X)
    write("y.csv", id=ORDER, img=IMG[ORDER], epoch=W[ORDER], targets=Y[ORDER])
    found = answer(base_url, "x.csv", "y.csv")
    assert found["loss"] == pytest.approx(RIGHT, rel=1e-14)
    assert not any("both have" in note for note in found["notes"])
    write("y.csv", id=ORDER, img=IMG, targets=Y[ORDER])
    assert "both have img, with the same values in another order" in refused(base_url, "x.csv", "y.csv")
    found = answer(base_url, "x.csv", "y.csv", "--id", "id")
    assert found["loss"] == pytest.approx(RIGHT, rel=1e-14)
    assert any(f"both have img, which differs from row {FIRST} on" in note for note in found["notes"])


@pytest.mark.parametrize("ids", [True, False])
def test_other_values_are_noted(base_url: str, ids: bool) -> None:
    index = {"id": PLACE} if ids else {}
    stamp = W.copy()
    stamp[7:] += 1
    write("x.parquet", **index, stamp=W, run=PLACE, logits=X)
    write("y.parquet", **index, stamp=stamp, run=PLACE + 1, targets=Y)
    found = answer(base_url, "x.parquet", "y.parquet")
    assert found["loss"] == pytest.approx(RIGHT, rel=1e-14)
    by = "by id" if ids else "by their place"
    said = f"both have stamp (and 1 more), which differs from row 7 on; rows were taken {by}"
    assert any(said in note for note in found["notes"])


def test_arrays_that_have_no_value_a_row_say_nothing(base_url: str) -> None:
    np.savez("x.npz", logits=X, classes=np.array([1, 2]), shape=np.arange(3.0))
    np.savez("y.npz", targets=Y, classes=np.array([2, 1]), shape=np.arange(3.0)[::-1])
    assert answer(base_url, "x.npz", "y.npz")["notes"] == []


def test_ids_under_two_names(base_url: str) -> None:
    write("x.csv", id=PLACE, logits=X)
    write("y.csv", image_id=PLACE + 1, targets=Y)
    found = answer(base_url, "x.csv", "y.csv")
    assert found["loss"] == pytest.approx(RIGHT, rel=1e-14)
    said = "rows were taken by their place: x.csv has id, y.csv has image_id; --id needs one name in both"
    assert said in found["notes"]
    write("y.csv", image_id=ORDER, targets=Y[ORDER])
    assert "x.csv has id and y.csv has image_id, with the same values in" in refused(
        base_url, "x.csv", "y.csv"
    )


def test_an_index_that_one_file_has(base_url: str) -> None:
    write("x.parquet", __index_level_0__=PLACE, logits=X)
    write("y.parquet", targets=Y)
    notes = answer(base_url, "x.parquet", "y.parquet")["notes"]
    assert any("x.parquet has __index_level_0__, y.parquet has none" in note for note in notes)


def test_a_bare_index_in_order_is_said_to_prove_little(base_url: str) -> None:
    write("x.csv", unnamed=PLACE, logits=X)
    write("y.csv", unnamed=PLACE, targets=Y)
    notes = answer(base_url, "x.csv", "y.csv")["notes"]
    assert any("by Unnamed: 0, which may but number the rows of each file" in note for note in notes)


@pytest.mark.parametrize("option", ["--weight", "--mask", "--by"])
@pytest.mark.parametrize("files", [["both.csv"], ["part-*.csv"], ["x.csv", "y.csv"], ["bare.csv", "y.csv"]])
def test_files_of_their_own_have_the_same_ids(base_url: str, option: str, files: list[str]) -> None:
    keep = W < 0.5
    values = {"--weight": W, "--mask": keep.astype(int), "--by": keep.astype(int)}[option]
    write("both.csv", id=PLACE, logits=X, targets=Y)
    for place, part in enumerate((slice(0, 100), slice(100, None))):
        write(f"part-{place}.csv", id=PLACE[part], logits=X[part], targets=Y[part])
    write("x.csv", id=PLACE, logits=X)
    write("bare.csv", logits=X)
    own = {"id": PLACE, option.removeprefix("--"): values}
    is_joined = files[0] == "x.csv"
    moved = ORDER if is_joined else PLACE
    write("y.csv", id=PLACE[moved], targets=Y[moved])
    write("own.csv", **own)
    found = answer(base_url, *files, option, "own.csv")
    losses = bce(X, Y)
    sums = {"--weight": losses @ W, "--mask": losses[keep].sum(), "--by": losses.sum()}
    assert found["sum"] == pytest.approx(sums[option], rel=1e-13)
    write("own.csv", **{name: column[ORDER] for name, column in own.items()})
    message = refused(base_url, *files, option, "own.csv")
    assert "own.csv: its id is not that of" in message
    assert f"from row {FIRST} on, and {option} takes rows by their place" in message


@pytest.mark.parametrize("options", [["--axis", "0", "--normalizer", "weight"], []])
def test_a_weight_of_both_files_must_be_the_same_however_they_are_read(
    base_url: str, options: list[str]
) -> None:
    """Means along the rows with divisors of their own are read whole."""
    x, y, w = X.reshape(-1, 3), Y.reshape(-1, 3), W[:100, None]
    np.savez("x.npz", logits=x, w=w)
    np.savez("y.npz", targets=y, w=w)
    args = ["x.npz", "y.npz", "--weight-column", "w", *options]
    losses = bce(x, y) * w
    right = losses.sum(axis=0) / w.sum() if options else losses.mean()
    np.testing.assert_allclose(answer(base_url, *args)["loss"], right, rtol=1e-13)
    np.savez("y.npz", targets=y, w=w[::-1])
    assert "x.npz and y.npz both have w, which is" in refused(base_url, *args)

"""Two files that share a column named like an id are joined by it, each row exactly once, or refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from pyarrow import csv, parquet

from client.cli.scored import answer, bce, refused, run
from lossd_client.cli.inputs import blocks as inputs

ROWS = 300
random = np.random.default_rng(8)
X = random.normal(size=ROWS)
Y = random.random(ROWS) < 0.4
SITE = np.array(["a", "b"])[random.integers(2, size=ROWS)]
NAMES = np.array([f"img_{row:04}" for row in range(ROWS)])
ORDER = random.permutation(ROWS)
Keys: TypeAlias = NDArray[np.object_]
RIGHT = bce(X, Y).mean()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(params=[8 << 20, 500], ids=["one request", "many blocks"])
def in_blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "BLOCK_BYTES", request.param)


def write(name: str, columns: dict[str, Any]) -> None:
    if name.endswith(".csv"):
        csv.write_csv(pa.table(columns), name)
    elif name.endswith(".npz"):
        np.savez(name, **columns)
    else:
        parquet.write_table(pa.table(columns), name)


@pytest.mark.usefixtures("in_blocks")
@pytest.mark.parametrize("second", ["y.parquet", "y.csv", "y.npz"])
@pytest.mark.parametrize("first", ["x.parquet", "x.csv", "x.npz"])
@pytest.mark.parametrize(
    ("name", "keys"), [("image_id", NAMES), ("id", np.arange(ROWS) * 7), ("index", np.arange(ROWS))]
)
def test_rows_in_another_order_are_joined(
    base_url: str, first: str, second: str, name: str, keys: NDArray[Any]
) -> None:
    write(first, {name: keys, "logits": X, "site": SITE})
    write(second, {name: keys[ORDER], "targets": Y[ORDER].astype(np.int8), "w": X[ORDER] ** 2})
    found = answer(base_url, first, second, "--weight-column", "w", "--by", "site")
    assert found["joined_by"] == [name]
    weighted = bce(X, Y) * X**2
    assert found["loss"] == pytest.approx(weighted.mean(), rel=1e-14)
    for group in found["groups"]:
        assert group["sum"] == pytest.approx(weighted[group["group"] == SITE].sum(), rel=1e-14)
    moved = np.count_nonzero(np.arange(ROWS) != ORDER)
    assert any(f"{moved} of {ROWS} rows stood in another place" in note for note in found["notes"])
    shown = run(base_url, first, second, "--weight-column", "w").stdout
    assert [line.split()[2:] for line in shown.splitlines() if line.startswith("joined by")] == [[name]]


def test_rows_in_the_same_order_are_said_to_be(base_url: str) -> None:
    write("x.parquet", {"uid": NAMES, "logits": X})
    write("y.parquet", {"targets": Y, "uid": NAMES})
    found = answer(base_url, "x.parquet", "y.parquet")
    assert found["loss"] == pytest.approx(RIGHT, rel=1e-14)
    assert any("all rows stood in the same order" in note for note in found["notes"])


def test_without_ids_rows_go_with_rows(base_url: str) -> None:
    write("x.parquet", {"photo": NAMES, "logits": X})
    write("y.parquet", {"targets": Y, "photo": NAMES})
    found = answer(base_url, "x.parquet", "y.parquet")
    assert found["loss"] == pytest.approx(RIGHT, rel=1e-14)
    assert "joined_by" not in found


def test_columns_that_are_named(base_url: str) -> None:
    frame, photo = np.arange(ROWS) % 10, np.array([f"p{row // 10}" for row in range(ROWS)])
    write("x.parquet", {"photo": photo, "frame": frame, "id": np.arange(ROWS), "logits": X})
    write(
        "y.csv",
        {
            "frame": frame[ORDER],
            "photo": photo[ORDER],
            "id": np.arange(ROWS),
            "targets": Y[ORDER].astype(int),
        },
    )
    found = answer(base_url, "x.parquet", "y.csv", "--id", "photo", "--id", "frame")
    assert found["joined_by"] == ["photo", "frame"]
    assert found["loss"] == pytest.approx(RIGHT, rel=1e-14)


def test_whole_numbers_are_the_same_however_they_are_written(base_url: str) -> None:
    write("x.parquet", {"id": np.arange(ROWS), "logits": X})
    write("y.parquet", {"id": ORDER.astype(float), "targets": Y[ORDER]})
    Path("y.csv").write_text("\n".join(["id,targets", *(f"{row}.0,{int(Y[row])}" for row in ORDER)]))
    for second in ("y.parquet", "y.csv"):
        assert answer(base_url, "x.parquet", second)["loss"] == pytest.approx(RIGHT, rel=1e-14)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize(
    "names",
    [
        "ID",
        "Id",
        "ImageId",
        "img_id",
        "image-id",
        "IMAGE ID",
        "patient_id",
        "frameID",
        "",
        "Unnamed: 0.1",
        "index",
        "__index_level_0__",
        ("Image_ID", "imageid"),
    ],
)
def test_names_that_ids_have(base_url: str, names: str | tuple[str, str], kind: str) -> None:
    mine, its = names if isinstance(names, tuple) else (names, names)
    write(f"x.{kind}", {mine: ORDER, "logits": X[ORDER]})
    write(f"y.{kind}", {its: np.arange(ROWS), "targets": Y.astype(np.int8)})
    found = answer(base_url, f"x.{kind}", f"y.{kind}")
    assert found["loss"] == pytest.approx(RIGHT, rel=1e-14)
    assert found["joined_by"] == [mine]


def test_an_index_counts_only_without_better_ids(base_url: str) -> None:
    for index in ("", "Unnamed: 0", "index"):
        write("x.csv", {index: np.arange(ROWS), "img_id": NAMES, "logits": X})
        write("y.csv", {index: np.arange(ROWS), "img_id": NAMES[ORDER], "targets": Y[ORDER].astype(int)})
        found = answer(base_url, "x.csv", "y.csv")
        assert found["loss"] == pytest.approx(RIGHT, rel=1e-14)
        assert found["joined_by"] == ["img_id"]
        assert not any("both have" in note for note in found["notes"])


def test_what_several_rows_have_in_common_is_no_id_where_all_agree(base_url: str) -> None:
    write("x.csv", {"patient_id": np.arange(ROWS) // 3, "logits": X})
    write("y.csv", {"patient_id": np.arange(ROWS) // 3, "targets": Y.astype(int)})
    found = answer(base_url, "x.csv", "y.csv")
    assert found["loss"] == pytest.approx(RIGHT, rel=1e-14)
    assert "joined_by" not in found
    write("y.csv", {"patient_id": (np.arange(ROWS) // 3)[ORDER], "targets": Y[ORDER].astype(int)})
    assert "is there twice" in refused(base_url, "x.csv", "y.csv")


def test_pairs_of_shards(base_url: str) -> None:
    for place, part in enumerate((slice(0, 100), slice(100, ROWS))):
        order = random.permutation(len(X[part]))
        write(f"x-{place}.parquet", {"id": NAMES[part], "logits": X[part]})
        write(f"y-{place}.parquet", {"id": NAMES[part][order], "targets": Y[part][order]})
    found = answer(base_url, "x-*.parquet", "--targets", "y-*.parquet")
    assert found["loss"] == pytest.approx(RIGHT, rel=1e-14)
    assert found["joined_by"] == ["id"]


@pytest.mark.usefixtures("in_blocks")
@pytest.mark.parametrize("options", [["--reduction", "none"], ["--axis", "0", "--normalizer", "positives"]])
def test_losses_are_in_the_first_files_order(base_url: str, options: list[str]) -> None:
    x = np.stack([X, -X], axis=1)
    write("x.npz", {"id": NAMES, "logits": x})
    write("y.npz", {"id": NAMES[ORDER], "targets": np.stack([Y, Y], axis=1)[ORDER]})
    losses = bce(x, Y[:, None])
    right = losses if options[0] == "--reduction" else losses.sum(axis=0) / Y.sum()
    np.testing.assert_allclose(answer(base_url, "x.npz", "y.npz", *options)["loss"], right, rtol=1e-13)


def test_an_error_names_the_row_of_its_own_file(base_url: str) -> None:
    targets = Y[ORDER].astype(float)
    targets[200] = 7.0
    write("x.parquet", {"id": NAMES, "logits": X})
    write("y.parquet", {"id": NAMES[ORDER], "targets": targets})
    done = run(base_url, "x.parquet", "y.parquet")
    assert done.exit_code == 1
    assert "/targets/200 (row 200 of y.parquet)" in done.stderr


def dropped(keys: Keys) -> Keys:
    kept: Keys = np.delete(keys, 5)
    return kept


def doubled(keys: Keys) -> Keys:
    keys[9] = keys[4]
    return keys


def renamed(keys: Keys) -> Keys:
    keys[3] = "else"
    return keys


def missing(keys: Keys) -> Keys:
    keys[6] = None
    return keys


@pytest.mark.parametrize(
    ("change", "messages"),
    [
        (dropped, [f"x.parquet, joined by id: id {NAMES[ORDER[5]]} of row {ORDER[5]} is not in y.parquet"]),
        (
            doubled,
            [f"y.parquet, joined by id: id {NAMES[ORDER[4]]} is there twice, in rows 4 and 9", "by --id"],
        ),
        (renamed, [f"id {NAMES[ORDER[3]]} of row {ORDER[3]} is not in y.parquet"]),
        (missing, ["y.parquet, joined by id: row 6 has no value"]),
    ],
)
def test_rows_that_have_no_partner_are_refused(
    base_url: str, change: Callable[[Keys], Keys], messages: list[str]
) -> None:
    keys = change(NAMES[ORDER].astype(object))
    write("x.parquet", {"id": NAMES, "logits": X})
    write("y.parquet", {"id": pa.array(keys.tolist()), "targets": Y[: len(keys)]})
    message = refused(base_url, "x.parquet", "y.parquet")
    for each in messages:
        assert each in message


def test_the_same_id_twice_in_both_is_refused_even_in_the_same_order(base_url: str) -> None:
    keys = NAMES.copy()
    keys[1] = keys[0]
    write("x.parquet", {"id": keys, "logits": X})
    write("y.parquet", {"id": keys, "targets": Y})
    assert "is there twice, in rows 0 and 1" in refused(base_url, "x.parquet", "y.parquet")


def test_more_rows_in_the_second_file_are_refused(base_url: str) -> None:
    write("x.parquet", {"id": NAMES[:-1], "logits": X[:-1]})
    write("y.parquet", {"id": NAMES[ORDER], "targets": Y[ORDER]})
    message = refused(base_url, "x.parquet", "y.parquet")
    assert f"id {NAMES[-1]} of row {np.flatnonzero(ORDER == ROWS - 1)[0]} is not in x.parquet" in message


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["x.parquet", "y.parquet", "--id", "photo"],
            "y.parquet has columns id, targets, and --id names photo",
        ),
        (
            ["x.parquet", "y.parquet", "--id", "ids"],
            "x.parquet has columns id, photo, logits, and --id names ids; did",
        ),
        (["both.parquet", "--id", "id"], "--id joins the file with the logits to another one"),
    ],
)
def test_ids_that_are_not_there(base_url: str, args: list[str], message: str) -> None:
    write("x.parquet", {"id": NAMES, "photo": NAMES, "logits": X})
    write("y.parquet", {"id": NAMES, "targets": Y})
    write("both.parquet", {"id": NAMES, "logits": X, "targets": Y})
    assert message in refused(base_url, *args)


def test_a_column_that_is_something_else_is_no_id(base_url: str) -> None:
    ids = random.integers(3, size=ROWS)
    x = random.normal(size=(ROWS, 3))
    write("x.parquet", {"id": pa.array(np.arange(ROWS)), "logits": pa.array(x.tolist())})
    write("y.parquet", {"id": ids, "other": ids})
    args = ["--targets-format", "index", "--targets-column", "id"]
    assert "It is not clear what these two are" in refused(base_url, "x.parquet", "y.parquet", *args)
    found = answer(base_url, "x.parquet", "--targets", "y.parquet", *args)
    assert found["loss"] == pytest.approx(bce(x, np.eye(3)[ids]).mean(), rel=1e-14)
    assert "joined_by" not in found


@pytest.mark.parametrize("name", ["site", "id"])
def test_a_column_of_both_must_be_the_same(base_url: str, name: str) -> None:
    write("x.parquet", {name: SITE, "logits": X})
    write("y.parquet", {name: SITE, "targets": Y})
    assert answer(base_url, "x.parquet", "y.parquet", "--by", name)["loss"] == pytest.approx(RIGHT, rel=1e-14)
    other = SITE.copy()
    other[77] = "c"
    write("y.parquet", {name: other, "targets": Y})
    message = refused(base_url, "x.parquet", "y.parquet", "--by", name)
    assert f"both have {name}, which is {SITE[77]} and c in row 77" in message

"""Columns that hold a class each, missing labels, and background ids."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from client.cli.scored import answer, bce, refused
from lossd_client.cli.inputs import blocks as inputs

ROWS = 200
CLASSES = ("cat", "dog", "owl")
random = np.random.default_rng(2)
X = random.normal(size=(ROWS, 3))
Y = random.random((ROWS, 3)) < 0.4


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(inputs, "BLOCK_BYTES", 2000)
    names = [f"{kind}{name}" for name in CLASSES for kind in ("p_", "y_")]
    arrays = [array[:, place] for place in range(3) for array in (X, Y.astype(np.uint8))]
    columns = dict(zip(names, arrays, strict=True))
    parquet.write_table(pa.table({**columns, "w": np.ones(ROWS)}), "wide.parquet")
    rows = zip(*(array.tolist() for array in arrays), strict=True)
    Path("wide.csv").write_text("\n".join([",".join(names), *(",".join(map(repr, row)) for row in rows)]))
    np.savez("wide.npz", **columns)  # type: ignore[arg-type]
    order = [*names[1::2][::-1], *names[::2]]
    parquet.write_table(pa.table({name: columns[name] for name in order}), "turned.parquet")
    dense = pa.FixedSizeListArray.from_arrays(pa.array(Y.reshape(-1)), 3)
    parquet.write_table(pa.table({**columns, "targets": dense}), "dense.parquet")


@pytest.mark.parametrize("file", ["wide.parquet", "wide.csv", "wide.npz"])
@pytest.mark.parametrize(
    "options",
    [
        ["--logits-columns", "p_cat,p_dog,p_owl", "--targets-columns", "y_cat, y_dog, y_owl"],
        ["--logits-columns", "p_", "--targets-columns", "y_"],
        ["--logits-columns", "p_", "--targets-columns", "y_cat,y_dog,y_owl"],
    ],
)
def test_columns_side_by_side(base_url: str, file: str, options: list[str]) -> None:
    found = answer(base_url, file, *options, "--axis", "0", "--normalizer", "100")
    assert found["shape"] == [ROWS, 3]
    np.testing.assert_allclose(found["loss"], bce(X, Y).sum(axis=0) / 100, rtol=1e-13)
    assert found["inputs"][0]["columns"] == {
        "logits": ["p_cat", "p_dog", "p_owl"],
        "targets": ["y_cat", "y_dog", "y_owl"],
    }


def test_beside_a_column_of_lists(base_url: str) -> None:
    found = answer(base_url, "dense.parquet", "--logits-columns", "p_")
    assert found["loss"] == pytest.approx(bce(X, Y).mean(), rel=1e-14)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["turned.parquet", "--logits-columns", "p_", "--targets-columns", "y_"],
            "--targets-columns y_cat,y_dog,y_owl",
        ),
        (
            ["wide.parquet", "--logits-columns", "p_c", "--targets-columns", "y_"],
            "at least 2 that begin with p_c: there is 1",
        ),
        (["wide.parquet", "--logits-columns", "q_", "--targets-columns", "y_"], "there are none"),
        (
            ["wide.parquet", "--logits-columns", "p_cat,p_cow", "--targets-columns", "y_"],
            "names p_cow; did you mean",
        ),
        (
            ["wide.parquet", "--logits-columns", "p_", "--targets-columns", "p_cat,y_dog"],
            "are the same, p_cat",
        ),
        (
            ["wide.parquet", "--logits-columns", "p_", "--targets-columns", "y_", "--by", "y_owl"],
            "begins with y_",
        ),
        (["wide.parquet", "--logits-columns", "p_cat,p_cat", "--targets-columns", "y_"], "p_cat twice"),
        (["dense.parquet", "--logits-columns", "p_cat,targets"], "targets has several numbers a row"),
    ],
)
def test_columns_that_are_not_clear(base_url: str, args: list[str], message: str) -> None:
    assert message in refused(base_url, *args)


@pytest.mark.parametrize("file", ["gaps.csv", "gaps.parquet"])
@pytest.mark.parametrize("option", [["--drop-unlabelled"], ["--ignore-index", "nan"]])
def test_missing_labels_are_dropped(base_url: str, file: str, option: list[str]) -> None:
    there = random.random(ROWS) < 0.6
    labels = [int(y) if known else None for y, known in zip(Y[:, 0], there, strict=True)]
    parquet.write_table(pa.table({"logits": X[:, 0], "targets": pa.array(labels)}), "gaps.parquet")
    rows = (f"{x!r},{'' if y is None else y}" for x, y in zip(X[:, 0].tolist(), labels, strict=True))
    Path("gaps.csv").write_text("\n".join(["logits,targets", *rows]))
    found = answer(base_url, file, *option)
    assert found["count"] == there.sum()
    assert found["loss"] == pytest.approx(bce(X[there, 0], Y[there, 0]).mean(), rel=1e-14)
    assert found["options"]["ignore_index"] == "nan"
    message = refused(base_url, file)
    assert "--drop-unlabelled" in message


def test_a_background_counts_and_an_ignored_id_does_not(base_url: str) -> None:
    ids = random.integers(-1, 4, size=ROWS)
    np.save("x.npy", X)
    np.save("ids.npy", ids)
    dense = np.eye(4)[ids.clip(0)][:, :3]
    kept = ids >= 0
    options = ["--targets-format", "index", "--background-index", "3", "--ignore-index", "-1"]
    found = answer(base_url, "x.npy", "ids.npy", *options, "--reduction", "sum")
    assert found["loss"] == pytest.approx(bce(X[kept], dense[kept]).sum(), rel=1e-14)
    assert found["options"]["background_index"] == 3
    per_class = answer(base_url, "x.npy", "ids.npy", *options, "--axis", "0", "--normalizer", "positives")
    right = bce(X[kept], dense[kept]).sum(axis=0) / dense[kept].sum(axis=0)
    np.testing.assert_allclose(per_class["loss"], right, rtol=1e-13)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--drop-unlabelled", "--ignore-index", "255"], "leave one out"),
        (["--ignore-index", "none"], "neither a number nor nan"),
        (["--background-index", "x"], "x"),
    ],
)
def test_what_contradicts_itself(base_url: str, options: list[str], message: str) -> None:
    assert message in refused(base_url, "wide.parquet", *options)


def wide(path: str, columns: dict[str, list[float]]) -> None:
    Path(path).write_text(
        "\n".join(
            [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
        )
    )


def test_classes_with_numbers_go_by_number(base_url: str) -> None:
    x = np.round(random.normal(size=(30, 12)), 4)
    ids = random.integers(0, 12, 30)
    texts = sorted(range(12), key=str)  # as a pivot writes them: 0, 1, 10, 11, 2
    wide("pivot.csv", {f"logit_{k}": x[:, k].tolist() for k in texts} | {"label": ids.tolist()})
    options = ["--targets-column", "label", "--targets-format", "index"]
    found = answer(base_url, "pivot.csv", "--logits-columns", "logit_", *options)
    assert found["loss"] == pytest.approx(bce(x, np.eye(12)[ids]).mean(), rel=1e-14)
    [note] = found["notes"]
    assert "logit_1, logit_2, logit_3" in note


def test_a_prefix_that_finds_other_columns_is_refused(base_url: str) -> None:
    wide("p.csv", {"p0": [1, 2], "p1": [3, 4], "patient": [7, 8], "label": [0, 1]})
    options = ["--targets-column", "label", "--targets-format", "index"]
    error = refused(base_url, "p.csv", "--logits-columns", "p", *options)
    assert "finds patient beside columns with numbers" in error
    assert "--logits-columns p0,p1" in error


@pytest.mark.parametrize(
    ("logits", "targets"), [("l_a,l_b", "y_b,y_a"), ("l_", "y_b,y_a"), ("l_a,l_b", "y_"), ("l_", "y_")]
)
def test_classes_in_another_order_are_refused(base_url: str, logits: str, targets: str) -> None:
    wide("turned.csv", {"l_a": [0.5, -2], "l_b": [1, 3], "y_b": [1, 0], "y_a": [0, 0]})
    error = refused(base_url, "turned.csv", "--logits-columns", logits, "--targets-columns", targets)
    assert "--logits-columns l_a,l_b --targets-columns y_a,y_b" in error
    found = answer(base_url, "turned.csv", "--logits-columns", "l_a,l_b", "--targets-columns", "y_a,y_b")
    expected = bce(np.array([[0.5, 1], [-2, 3]]), np.array([[0, 1], [0, 0]])).mean()
    assert found["loss"] == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("name", ["prob", "probabilities", "Probability", "prob_cat"])
def test_a_name_that_says_probabilities_is_believed(base_url: str, name: str) -> None:
    wide("named.csv", {name: [0.5, 0.25], "y": [1, 0]})
    options = ["--logits-column", name, "--targets-column", "y"]
    assert "give --probabilities, or rename it" in refused(base_url, "named.csv", *options)
    found = answer(base_url, "named.csv", *options, "--probabilities")
    assert found["loss"] == pytest.approx(-(np.log(0.5) + np.log(0.75)) / 2, rel=1e-14)


def test_a_table_of_pos_weights_has_one_column(base_url: str) -> None:
    wide("x.csv", {"l_a": [0.5, -2], "l_b": [1, 3], "y_a": [0, 0], "y_b": [1, 0]})
    Path("k.csv").write_text("class,pos_weight\nb,1\na,5\n")
    options = ["--logits-columns", "l_", "--targets-columns", "y_", "--pos-weight"]
    assert "has one column, with the classes in their order" in refused(base_url, "x.csv", *options, "k.csv")
    Path("k.csv").write_text("pos_weight\n5\n1\n")
    found = answer(base_url, "x.csv", *options, "k.csv")
    each = bce(np.array([[0.5, 1], [-2, 3]]), np.array([[0, 1], [0, 0]]))
    assert found["loss"] == pytest.approx(each.mean(), rel=1e-14)  # the 1 is b's, which has the positive


def test_ids_that_may_lie_along_another_axis_are_noted_once(base_url: str) -> None:
    x, ids = random.normal(size=(60, 3, 3)), random.integers(0, 3, (60, 3))
    np.save("x.npy", x)
    np.save("ids.npy", ids)
    found = answer(base_url, "x.npy", "ids.npy", "--targets-format", "index")
    assert found["loss"] == pytest.approx(bce(x, np.eye(3)[ids]).mean(), rel=1e-14)
    assert len(found["notes"]) == 1
    assert found["notes"][0].startswith("class ids were taken along axis 2 of the inputs, [60, 3, 3]")


CLASSES_LACKING = ["--logits-columns", "a,b", "--targets-columns", "c,d"]


@pytest.mark.parametrize(
    ("loss", "columns", "can_drop"),
    [
        ("bce", CLASSES_LACKING, True),
        ("cross_entropy", ["--logits-columns", "a,b", "--targets-column", "c"], True),
        ("cross_entropy", CLASSES_LACKING, False),
        ("box", ["--logits-columns", "a,b,a2,b2", "--targets-columns", "c,d,c2,d2"], False),
    ],
)
def test_missing_labels_have_a_remedy_that_the_loss_takes(
    base_url: str, loss: str, columns: list[str], can_drop: bool
) -> None:
    Path("lacking.csv").write_text("a,b,a2,b2,c,d,c2,d2\n0.5,0.5,1.5,1.5,0,1,1,2\n0.5,0.5,1.5,1.5,,,,\n")
    told = refused(base_url, "lacking.csv", "--loss", loss, *columns)
    assert ("--drop-unlabelled" in told) is can_drop
    assert ("leave their rows out of the file" in told) is not can_drop


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["boxes.csv"], "by --logits-column which one holds the boxes, or by --logits-columns which ones"),
        (["boxes.csv", "wide.csv"], "(several by --logits-columns and --targets-columns)"),
    ],
)
def test_columns_of_boxes_are_told_how_to_be_named(base_url: str, args: list[str], message: str) -> None:
    Path("boxes.csv").write_text("x1,y1,x2,y2\n0,0,1,1\n")
    assert message in refused(base_url, *args, "--loss", "box")

"""Which class a column is, across ids, numbers and shards; and names that say probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.cli.scored import answer, bce, refused

X = np.array([[0.5, -2, 3], [1, 0.25, -4], [-1, 2, 0.75], [3, -3, 1]])
IDS = np.array([2, 0, 1, 2])
INDEX = ["--targets-column", "label", "--targets-format", "index"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(path: str, columns: Mapping[str, Any]) -> None:
    rows = zip(*(np.asarray(values).tolist() for values in columns.values()), strict=True)
    Path(path).write_text("\n".join([",".join(columns), *(",".join(map(str, row)) for row in rows)]))


@pytest.mark.parametrize("name", ["logit_{}", "c_{}.0", "class_{}_logit", "p{}"])
def test_a_prefix_goes_by_number_whatever_stands_around_it(base_url: str, name: str) -> None:
    order = [0, 2, 1]
    write("x.csv", {name.format(place): X[:, place] for place in order} | {"label": IDS})
    prefix = name.partition("{")[0]
    found = answer(base_url, "x.csv", "--logits-columns", prefix, *INDEX)
    assert found["loss"] == pytest.approx(bce(X, np.eye(3)[IDS]).mean(), rel=1e-14)


@pytest.mark.parametrize(
    ("numbers", "columns", "messages"),
    [
        ((1, 2, 3), "l_", ("class id 0 would be l_1", "--logits-columns l_1,l_2,l_3 if that is meant")),
        ((0, 1, 3), "l_", ("class id 2 would be l_3", "l_0, l_1, l_3")),
        ((0, 1, 2), "l_0,l_2,l_1", ("class id 1 would be l_2", "by number, --logits-columns l_0,l_1,l_2")),
    ],
)
def test_ids_mean_the_classes_of_their_number(
    base_url: str, numbers: tuple[int, ...], columns: str, messages: tuple[str, ...]
) -> None:
    write("x.csv", {f"l_{number}": X[:, place] for place, number in enumerate(numbers)} | {"label": IDS})
    error = refused(base_url, "x.csv", "--logits-columns", columns, *INDEX)
    for message in messages:
        assert message in error
    listed = ",".join(f"l_{number}" for number in numbers)
    found = answer(base_url, "x.csv", "--logits-columns", listed, *INDEX)
    assert found["loss"] == pytest.approx(bce(X, np.eye(3)[IDS]).mean(), rel=1e-14)


def test_two_columns_of_one_number_are_not_classes(base_url: str) -> None:
    write("x.csv", {"c_0_logit": X[:, 0], "c_0_old": X[:, 1], "c_1_logit": X[:, 2], "label": IDS})
    assert "c_0_logit and c_0_old, which have one number" in refused(
        base_url, "x.csv", "--logits-columns", "c_", *INDEX
    )


def test_shards_have_their_classes_in_one_order(base_url: str) -> None:
    """Each class's own loss, which a prefix would mix."""
    y = np.eye(3)[IDS]
    names = ("cat", "dog", "owl")
    for file, order in (("a.csv", (0, 1, 2)), ("b.csv", (1, 0, 2))):
        columns = {f"l_{names[place]}": X[:, place] for place in order}
        write(file, columns | {f"y_{names[place]}": y[:, place] for place in order})
    axis = ["--axis", "0", "--reduction", "sum"]
    error = refused(base_url, "a.csv", "b.csv", "--logits-columns", "l_", "--targets-columns", "y_", *axis)
    assert "--logits-columns l_cat,l_dog,l_owl" in error
    listed = ["--logits-columns", "l_cat,l_dog,l_owl", "--targets-columns", "y_cat,y_dog,y_owl"]
    found = answer(base_url, "a.csv", "b.csv", *listed, *axis)
    np.testing.assert_allclose(found["loss"], 2 * bce(X, y).sum(axis=0), rtol=1e-14)


@pytest.mark.parametrize("name", ["y_prob", "proba", "class_probability"])
def test_probabilities_by_any_of_their_names(base_url: str, name: str) -> None:
    write("x.csv", {name: [0.5, 0.25], "y": [1, 0]})
    options = ["x.csv", "--logits-column", name, "--targets-column", "y"]
    assert "give --probabilities" in refused(base_url, *options)
    found = answer(base_url, *options, "--probabilities")
    assert found["loss"] == pytest.approx(-(np.log(0.5) + np.log(0.75)) / 2, rel=1e-14)


@pytest.mark.parametrize("name", ["problem", "probe_7", "prob_logit"])
def test_what_only_begins_like_probabilities_is_scored(base_url: str, name: str) -> None:
    write("x.csv", {name: [0.5, -2], "y": [1, 0]})
    found = answer(base_url, "x.csv", "--logits-column", name, "--targets-column", "y")
    assert found["loss"] == pytest.approx(bce([0.5, -2], [1, 0]).mean(), rel=1e-14)


def test_ids_of_one_number_a_row(base_url: str) -> None:
    write("x.csv", {"logits": [0.5, -2], "targets": [1, 0]})
    error = refused(base_url, "x.csv", "--targets-format", "index")
    assert "leave --targets-format out" in error
    assert "--logits-columns" in error

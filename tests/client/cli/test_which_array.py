"""Which array is meant: what is not clear is refused, and nothing is taken in place of another."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from client.cli.scored import answer, bce, refused

X = np.array([[0.5, -2, 3], [1, 0, -40]], dtype=np.float32)
Y = np.array([[1, 0, 1], [0, 1, 0]])
RIGHT = bce(X, Y).mean()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with files that have the one, the other, both, or what cannot be read."""
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", X)
    np.save("y.npy", Y)
    arrays: dict[str, Mapping[str, Any]] = {
        "logits": {"logits": X, "other": Y},
        "targets": {"targets": Y, "other": X},
        "both": {"logits": X, "targets": Y},
        "scores": {"score": X},
        "labels": {"label": Y},
        "prob": {"prob": X.clip(0, 1)},
        "ab": {"a": X, "b": Y},
        "same": {"value": X},
        "same too": {"value": Y},
        "only logits": {"logits": X},
        "only targets": {"targets": Y},
        "probabilities": {"probabilities": X.clip(0, 1), "targets": Y},
    }
    for name, members in arrays.items():
        np.savez(f"{name}.npz", **members)
    save_file({"logits": X.astype(ml_dtypes.float8_e4m3fn), "targets": Y.astype("f4")}, "f8.safetensors")
    save_file({"labels": Y.astype("u4"), "scores": X.clip(0, 1)}, "u32.safetensors")
    save_file({"label": Y.astype("c8")}, "complex.safetensors")


@pytest.mark.parametrize(
    "args",
    [
        ("x.npy", "y.npy"),
        ("logits.npz", "targets.npz"),
        ("targets.npz", "logits.npz"),  # their names say which is which
        ("logits.npz", "y.npy"),
        ("x.npy", "targets.npz"),
        ("scores.npz", "labels.npz"),
        ("scores.npz", "y.npy"),
        ("ab.npz", "--logits-column", "a", "--targets-column", "b"),
        ("ab.npz", "y.npy", "--logits-column", "a"),
        ("same.npz", "same too.npz", "--logits-column", "value", "--targets-column", "value"),
        ("x.npy", "u32.safetensors", "--targets-column", "labels"),
        ("labels.npz", "scores.npz", "--logits-column", "score", "--targets-column", "label"),
        ("both.npz",),
        ("both.npz", "--targets", "y.npy"),
        ("x.npy", "--targets", "both.npz"),
    ],
)
def test_what_is_clear_is_scored(base_url: str, args: tuple[str, ...]) -> None:
    found = answer(base_url, *args)
    assert found["loss"] == pytest.approx(RIGHT, rel=1e-15)
    assert found["count"] == X.size


@pytest.mark.parametrize(
    ("args", "messages"),
    [
        # A tensor of a dtype that is not read does not make room for another one.
        (("f8.safetensors", "y.npy"), ("logits (which has dtype F8_E4M3)", "not clear")),
        # What a name says of an array is not overruled by its place.
        (("labels.npz", "scores.npz"), ("labels.npz has array label", "not clear")),
        (("x.npy", "scores.npz"), ("not clear",)),
        (("prob.npz", "labels.npz"), ("prob.npz has array prob", "--logits-column", "give --probabilities")),
        (("f8.safetensors",), ("array 'logits' has dtype F8_E4M3",)),
        (("f8.safetensors", "both.npz"), ("array 'logits' has dtype F8_E4M3",)),
        (("x.npy", "u32.safetensors"), ("labels", "scores", "say by --targets-column")),
        (("x.npy", "complex.safetensors"), ("array 'label' has dtype C64",)),
        # Two files are a pair or shards; no other reading is made up.
        (("both.npz", "targets.npz"), ("arrays logits, targets", "arrays targets, other", "not clear")),
        (("both.npz", "y.npy"), ("not clear", "--targets")),
        (("logits.npz", "only logits.npz"), ("not clear",)),
        (("only targets.npz", "y.npy"), ("not clear",)),
        (("y.npy", "only logits.npz"), ("not clear",)),
        (("x.npy", "ab.npz"), ("say by --targets-column which one holds the targets",)),
        (("ab.npz", "y.npy"), ("say by --logits-column which one holds the logits",)),
        (("ab.npz", "ab.npz"), ("not clear",)),
        (("logits.npz",), ("say by --targets-column",)),
        (("x.npy", "y.npy", "x.npy"), ("each must have both", "--targets PATTERN", "manifest")),
        (
            ("both.npz", "logits.npz", "targets.npz"),
            ("logits.npz has arrays logits, other", "no targets by name"),
        ),
        # Probabilities as logits would be another loss.
        (("probabilities.npz",), ("--logits-column", "give --probabilities: that is another loss")),
        (("both.npz", "--probabilities"), ("leave --probabilities out: that is another loss",)),
        (("ab.npz", "--logits-column", "a,b"), ("several, a class each, are named by --logits-columns",)),
        (("both.npz", "--targets-column", "logits"), ("logits and the targets are the same",)),
        (
            ("both.npz", "--logits-column", "logits", "--logits-columns", "a,b"),
            ("leave one of the options out",),
        ),
    ],
)
def test_what_is_not_clear_is_refused(
    base_url: str, args: tuple[str, ...], messages: tuple[str, ...]
) -> None:
    message = refused(base_url, *args)
    for each in messages:
        assert each in message


def test_positions_say_nothing_where_a_pattern_or_a_folder_gives_the_order(base_url: str) -> None:
    Path("d").mkdir()
    np.save("d/labels.npy", Y)
    np.save("d/preds.npy", X)
    for args in (["d"], ["d/*.npy"]):
        assert "not clear" in refused(base_url, *args)
    assert answer(base_url, "d/preds.npy", "d/labels.npy")["loss"] == pytest.approx(RIGHT, rel=1e-15)


@pytest.mark.parametrize(
    "option", ["--logits-column a", "--targets y.npy", "--gamma 2", "--json", "--url http://x"]
)
def test_an_option_that_may_be_given_once_is_an_error_twice(base_url: str, option: str) -> None:
    message = refused(base_url, "ab.npz", *option.split(), *option.split())
    assert f"{option.split()[0]} is given twice" in message


def test_the_other_commands_refuse_an_option_twice_too(base_url: str) -> None:
    from typer.testing import CliRunner

    from command import app

    for command in (["ping", "--url", "x", "--url", "y"], ["teams", "list", "--teams", "a", "--teams", "b"]):
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 2
        assert "is given twice" in done.stderr


def test_what_has_a_tensors_name_and_is_not_used_is_noted(base_url: str) -> None:
    np.savez("more.npz", logits=X, targets=Y, weight=np.ones((2, 1)), mask=Y == 1, mass=X)
    notes = answer(base_url, "more.npz")["notes"]
    assert [note for note in notes if "not used" in note] == [
        "more.npz has 'weight', which is not used; --weight-column weight uses it",
        "more.npz has 'mask', which is not used; --mask-column mask uses it",
    ]
    used = answer(base_url, "more.npz", "--mask-column", "mask", "--weight-column", "weight")
    assert used["count"] == (Y == 1).sum()
    assert not [note for note in used["notes"] if "not used" in note]


@pytest.mark.parametrize(
    ("loss", "name", "targets"),
    [
        ("bce", "pos_weight", Y),
        ("cross_entropy", "class_weight", np.arange(2)),
        ("focal", "alpha", Y),
        ("softmax_focal", "alpha", np.arange(2)),
    ],
)
def test_numbers_of_classes_that_are_not_used_are_noted(
    base_url: str, loss: str, name: str, targets: np.ndarray[Any, Any]
) -> None:
    np.savez("more.npz", logits=X, targets=targets, **{name: np.full(3, 0.5)})  # type: ignore[arg-type]
    option = f"--{name.replace('_', '-')}"
    notes = answer(base_url, "more.npz", "--loss", loss)["notes"]
    assert [note for note in notes if "not used" in note] == [
        f"more.npz has '{name}', which is not used; {option} takes it, as numbers or from a file of its own"
    ]
    notes = answer(base_url, "more.npz", "--loss", loss, option, "0.5,0.5,0.5")["notes"]
    assert not [note for note in notes if "not used" in note]

"""Notes of what values say: probabilities as logits, swapped files, and no rows at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from client.cli.scored import answer, bce, run
from lossd_client.cli.inputs import blocks as inputs

random = np.random.default_rng(5)
P = random.random((40, 3)).astype(np.float32)
Y = np.eye(3)[random.integers(0, 3, 40)]


@pytest.fixture(autouse=True, params=[1 << 20, 200])
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one request, and in blocks."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(inputs, "BLOCK_BYTES", request.param)
    outside = P.copy()
    outside[-1, -1] = 1.5  # in the last block alone
    arrays: dict[str, NDArray[Any]] = {
        "p": P,
        "y": Y,
        "outside": outside,
        "same": np.ones_like(P),
        "empty": P[:0],
        "site": np.arange(40) % 2,
    }
    for name, array in arrays.items():
        np.save(f"{name}.npy", array)
    save_file({"logits": P.astype(ml_dtypes.bfloat16), "targets": Y}, "bf16.safetensors")


@pytest.mark.parametrize("by", [[], ["--by", "site.npy"]])
def test_logits_that_all_lie_in_0_and_1_are_noted(base_url: str, by: list[str]) -> None:
    found = answer(base_url, "p.npy", "y.npy", *by)
    assert found["loss"] == pytest.approx(bce(P, Y).mean(), rel=1e-14)
    assert found["notes"] == [
        "all logits lie in [0, 1]: if they are probabilities, give --probabilities; if they are targets, "
        "the files are swapped"
    ]
    assert answer(base_url, "outside.npy", "y.npy", *by)["notes"] == []
    assert answer(base_url, "same.npy", "y.npy", *by)["notes"] == []
    assert answer(base_url, "p.npy", "y.npy", "--probabilities", *by)["notes"] == []


def test_bfloat16_too(base_url: str) -> None:
    [note] = answer(base_url, "bf16.safetensors")["notes"]
    assert note.startswith("all logits lie in [0, 1]")


def test_probabilities_that_are_the_targets_are_noted(base_url: str) -> None:
    found = answer(base_url, "y.npy", "p.npy", "--probabilities")
    assert found["notes"] == [
        "all probabilities are 0 or 1, and the targets are not: if they are the targets, the two are swapped"
    ]
    np.save("bits.npy", Y[::-1])
    assert (
        answer(base_url, "y.npy", "bits.npy", "--probabilities", "--allow-nan", "--reduction", "sum")["notes"]
        == []
    )


@pytest.mark.parametrize("by", [[], ["--by", "empty site.npy"]])
def test_no_rows_are_noted(base_url: str, by: list[str]) -> None:
    np.save("empty site.npy", np.arange(0))
    np.save("empty y.npy", Y[:0])
    found = answer(base_url, "empty.npy", "empty y.npy", "--reduction", "sum", *by)
    assert (found["loss"], found["notes"]) == (0.0, ["the input has no rows"])


@pytest.mark.parametrize("axis", [[], ["--axis", "1"]])
def test_a_mean_over_nothing_says_what_the_command_can_do(base_url: str, axis: list[str]) -> None:
    mask = np.ones((40, 3), dtype=bool)
    mask[37 if axis else slice(None)] = False
    np.save("m.npy", mask)
    done = run(base_url, "p.npy", "y.npy", "--mask", "m.npy", *axis)
    assert (done.exit_code, done.stdout) == (1, "")
    said = " ".join(done.stderr.split())
    assert "--reduction sum gives 0 there" in said
    assert "batches" not in said
    if axis:
        assert "/loss/37 is over nothing" in said
    found = answer(base_url, "p.npy", "y.npy", "--mask", "m.npy", *axis, "--reduction", "sum")
    np.testing.assert_allclose(found["loss"], (bce(P, Y) * mask).sum(axis=1 if axis else None), rtol=1e-13)


def test_of_a_loss_of_logits_alone_too(base_url: str) -> None:
    assert answer(base_url, "p.npy", "y.npy", "--loss", "hinge")["notes"] == [
        "all logits lie in [0, 1]: if they are probabilities, hinge is of logits alone: give those; if they "
        "are targets, the files are swapped"
    ]
    assert answer(base_url, "p.npy", "y.npy", "--loss", "squared")["notes"] == []

"""Files of logits and of targets go together by what stands for `*`, never by their order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from client.cli.scored import answer, bce, refused
from lossd_client.cli.files.errors import BadFile
from lossd_client.cli.inputs.pairing import paired


@pytest.mark.parametrize(
    ("pattern", "pairs"),
    [
        ("y-*.npy", {"x-10.npy": "y-10.npy", "x-2.npy": "y-2.npy", "x-1.npy": "y-1.npy"}),
        ("labels/*.npy", {"preds/a.npy": "labels/a.npy", "preds/ab.npy": "labels/ab.npy"}),
        ("*/y.npy", {"a/x.npy": "a/y.npy", "b/x.npy": "b/y.npy"}),
        ("*-of-2.npy", {"run-1/part-1-of-2.npz": "1-of-2.npy", "run-1/part-2-of-2.npz": "2-of-2.npy"}),
        ("l/*/p-*.npy", {"x/a/1.npy": "l/a/p-1.npy", "x/b/1.npy": "l/b/p-1.npy"}),
        ("y?.npy", {"x1.npy": "y1.npy", "x2.npy": "y2.npy"}),
        ("y[12].npy", {"x1.npy": "y1.npy", "x2.npy": "y2.npy"}),
        ("l/**/y.npy", {"p/a/b/x.npy": "l/a/b/y.npy", "p/c/x.npy": "l/c/y.npy"}),
        ("y.npy", {"x.npy": "y.npy"}),
        ("y*.npy", {"preds-0.npy": "y0.npy"}),
        ("labels/**", {"preds/a.npy": "labels/a.npy", "preds/b/a.npy": "labels/b/a.npy"}),
        ("labels/**", {"preds/a.npy": "labels/a.parquet", "preds/ab.npy": "labels/ab.parquet"}),
        ("s3://b/labels/**", {"preds/1.npy": "s3://b/labels/1.npy", "preds/11.npy": "s3://b/labels/11.npy"}),
    ],
)
def test_pairs(pattern: str, pairs: dict[str, str]) -> None:
    targets = sorted(pairs.values(), reverse=True)
    assert dict(paired(list(pairs), targets, pattern)) == pairs


@pytest.mark.parametrize(
    ("logits", "targets", "pattern", "message"),
    [
        (
            ["x-1", "x-2"],
            ["y-1", "y-3"],
            "y-*",
            "x-2 has no partner among the targets; y-3 .* among the logits",
        ),
        (["x-1", "x-2", "x-3"], ["y-1", "y-2"], "y-*", "x-3 has no partner"),
        (["x-1"], ["y-1", "y-2"], "y-*", "y-2 has no partner among the logits"),
        (["x-1"], ["y-2"], "y-*", "x-1 has no partner"),
        (["x-01", "x-02"], ["y-1", "y-2"], "y-[1-9]", None),
        (["a1b", "c2d"], ["y-1", "y-2"], "y-*", "has no partner"),  # not in the same place of each
        (["x", "y"], ["labels"], "labels", "has no partner"),
        (["p/1.npy", "p/2.npy"], ["l/1.npy"], "l/**", "^--targets l stands for 1 .*p/2.npy has no partner"),
        (["p/1.npy"], ["l/2.npy"], "l/**", "Files of folders go by their names"),
    ],
)
def test_without_a_partner(logits: list[str], targets: list[str], pattern: str, message: str | None) -> None:
    if message is None:
        assert dict(paired(logits, targets, pattern)) == dict(zip(logits, targets, strict=True))
        return
    with pytest.raises(BadFile, match=message):
        paired(logits, targets, pattern)


def test_a_score_of_pairs(tmp_path: Path, base_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    x, y = random.normal(size=(12, 10)), random.random((12, 10)) < 0.5
    for place in range(12):  # whose names sort in another order than their numbers
        np.save(f"logits-{place}.npy", x[place])
        np.save(f"labels-{place:02}.npy", y[place])
    message = refused(base_url, "logits-*.npy", "--targets", "labels-*.npy")
    assert "has no partner" in message
    for place in range(12):
        Path(f"labels-{place:02}.npy").rename(f"labels-{place}.npy")
    found = answer(base_url, "logits-*.npy", "--targets", "labels-*.npy")
    assert found["loss"] == pytest.approx(bce(x, y).mean(), rel=1e-14)
    assert {(one["logits"], one["targets"]) for one in found["inputs"]} == {
        (f"logits-{place}.npy", f"labels-{place}.npy") for place in range(12)
    }
    for name in ("logits", "labels"):
        Path(name).mkdir()
        for place in range(12):
            Path(f"{name}/{place}.npy").write_bytes(Path(f"{name}-{place}.npy").read_bytes())
    assert answer(base_url, "logits", "--targets", "labels")["loss"] == found["loss"]
    Path("labels-7.npy").unlink()
    assert "logits-7.npy has no partner" in refused(base_url, "logits-*.npy", "--targets", "labels-*.npy")

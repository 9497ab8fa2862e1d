"""Arrays as people have them on disk, with a class and rows that are known to be the worst."""

from __future__ import annotations

import gzip
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

CLASSES: Final = ["cat", "dog", "bird", "horse", "zebra", "cow"]
BAD_CLASS: Final = 4
BAD_ROWS: Final = (137, 42)
_SHAPE: Final = (400, len(CLASSES))


@dataclass(frozen=True, slots=True)
class Arrays:
    """Two models' logits and what is true, saved in a folder in all the ways that the page reads."""

    folder: Path
    logits: NDArray[np.float32]
    better: NDArray[np.float32]
    targets: NDArray[np.uint8]
    names: list[str]

    def path(self, name: str) -> Path:
        found = self.folder / name
        assert found.exists(), name
        return found

    def losses(self, logits: NDArray[np.float32] | None = None) -> NDArray[np.float64]:
        """Each element's cross-entropy, by numpy in float64."""
        x = (self.logits if logits is None else logits).astype(np.float64)
        return np.logaddexp(0, x) - x * self.targets


def make_arrays(folder: Path) -> Arrays:
    rng = np.random.default_rng(22)
    targets = (rng.random(_SHAPE) < 0.3).astype(np.uint8)
    sure = np.where(targets, 3.0, -3.0)
    logits = (sure + rng.normal(size=_SHAPE)).astype(np.float32)
    logits[:, BAD_CLASS] = rng.normal(scale=3, size=_SHAPE[0])
    for place, row in enumerate(BAD_ROWS):
        logits[row] = (place - 12) * np.where(targets[row], 1, -1)
    better = (0.8 * logits + 0.2 * sure).astype(np.float32)
    arrays = Arrays(folder, logits, better, targets, [f"image-{row:04}.png" for row in range(_SHAPE[0])])
    _save(arrays)
    _save_wrong(arrays)
    return arrays


def _save(arrays: Arrays) -> None:
    folder = arrays.folder
    for name, array in (("logits", arrays.logits), ("targets", arrays.targets), ("better", arrays.better)):
        np.save(folder / f"{name}.npy", array)
    np.save(folder / "run7_out.npy", arrays.logits)  # which is which, their names do not say
    np.save(folder / "val_2024.npy", arrays.targets.astype(np.float32))  # nor their types
    np.savez(folder / "both.npz", logits=arrays.logits, targets=arrays.targets)
    (folder / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    (folder / "names.txt").write_text("\n".join(arrays.names) + "\n")
    columns: dict[str, Any] = {
        name: pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
        for name, values in (("logits", arrays.logits), ("targets", arrays.targets))
    }
    table = pa.table({**columns, "ids": pa.array(arrays.names)})
    with pa.OSFile(str(folder / "run.arrows"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table, max_chunksize=100)


def _save_wrong(arrays: Arrays) -> None:
    folder = arrays.folder
    wrong = arrays.targets.astype(np.float32)
    wrong[17, 3] = 1.7
    np.save(folder / "wrong_targets.npy", wrong)
    np.save(folder / "short_targets.npy", arrays.targets[:-1])
    np.save(folder / "pickled_targets.npy", np.array([{"a": 1}, None], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(folder / "model.pt", "w") as archive:  # what torch.save writes
        archive.writestr("model/data.pkl", b"\x80\x02}q\x00.")
        archive.writestr("model/version", b"3\n")
    (folder / "empty_targets.npy").touch()


def save_report(folder: Path, name: str, document: bytes) -> tuple[Path, Path]:
    """Save a report as it is, and compressed."""
    plain, packed = folder / f"{name}.json", folder / f"{name}.json.gz"
    plain.write_bytes(document)
    packed.write_bytes(gzip.compress(document))
    return plain, packed


def save_large(folder: Path, rows: int, columns: int) -> tuple[Path, Path, float]:
    """Save a pair of files of 4 bytes an element, and their mean loss."""
    rng = np.random.default_rng(160)
    logits = rng.standard_normal((rows, columns), np.float32)
    targets = (rng.random((rows, columns), np.float32) < 0.1).astype(np.float32)
    paths = folder / "logits.npy", folder / "targets.npy"
    np.save(paths[0], logits)
    np.save(paths[1], targets)
    total = 0.0
    for start in range(0, rows, 100_000):
        x = logits[start : start + 100_000].astype(np.float64)
        total += float(np.sum(np.logaddexp(0, x) - x * targets[start : start + 100_000]))
    return *paths, total / logits.size


def npy_bytes(array: NDArray[Any]) -> bytes:
    sink = io.BytesIO()
    np.save(sink, array)
    return sink.getvalue()

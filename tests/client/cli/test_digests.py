"""Digests are of a file's bytes, whatever is read of it and in whatever order, and cost no second reading."""

from __future__ import annotations

import io
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import pytest

from lossd_client.cli.files.data_file import Column, Kind
from lossd_client.cli.files.digests import Digest, DigestedFile
from lossd_client.cli.files.formats import open_file
from lossd_client.cli.files.location import Location

DATA = np.random.default_rng(0).bytes(5000)
RIGHT = sha256(DATA).hexdigest()


class Counting(io.BytesIO):
    """A file that counts the bytes that are read."""

    read_bytes = 0

    def readinto(self, buffer: object, /) -> int:
        count = super().readinto(buffer)  # type: ignore[arg-type]
        self.read_bytes += count
        return count

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.read_bytes += len(data)
        return data


@pytest.mark.parametrize(
    "reads",
    [
        [],
        [(0, 5000)],
        [(0, 10), (0, 100), (10, 4000), (4010, 990)],
        [(4900, 100), (0, 4900)],
        [(100, 50), (0, 10), (2000, 3000)],
        [(0, 3000), (1000, 100), (2999, 2001)],
        [(6000, 10)],
    ],
)
def test_any_order_of_reading(reads: list[tuple[int, int]]) -> None:
    digest = Digest()
    for start, length in reads:
        with DigestedFile(io.BytesIO(DATA), digest) as file:
            file.seek(start)
            assert file.read(length) == DATA[start : start + length]
    assert digest.finish(io.BytesIO(DATA)) == RIGHT


def test_what_was_read_in_order_is_not_read_again() -> None:
    digest = Digest()
    with DigestedFile(io.BytesIO(DATA), digest) as file:
        while file.read(700):
            pass
    rest = Counting(DATA)
    assert digest.finish(cast("BinaryIO", rest)) == RIGHT
    assert rest.read_bytes == 0


def test_an_array_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.arange(10_000.0).reshape(-1, 4))
    file = open_file(str(path), digest=Digest())
    for _ in file.blocks([Column("", Kind.NUMBER)], 100):
        pass
    rest = Counting(path.read_bytes())
    monkeypatch.setattr(Location, "open", lambda _: rest)
    assert file.location.sha256() == sha256(path.read_bytes()).hexdigest()
    assert rest.read_bytes == 0

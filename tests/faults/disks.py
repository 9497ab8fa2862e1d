"""A small disk of a test's own, which can be full, or not answer. Needs root."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

_BYTES: Final = 4 << 20


class Disk:
    """A disk.

    Attributes:
        folder: Where it is mounted.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def full(self) -> Iterator[None]:
        """Nothing more fits."""
        filler = self.folder / "filler"
        with filler.open("wb", buffering=0) as file:
            for nbytes in (4096, 512, 1):
                try:
                    while file.write(bytes(nbytes)):
                        pass
                except OSError:
                    continue
        try:
            yield
        finally:
            filler.unlink()

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Whoever writes waits."""
        _run("fsfreeze", "-f", str(self.folder))
        try:
            yield
        finally:
            _run("fsfreeze", "-u", str(self.folder))


@contextmanager
def small_disk(folder: Path) -> Iterator[Disk]:
    """A disk of a few megabytes, or a skipped test where none can be mounted."""
    if os.geteuid():
        pytest.skip("only root mounts disks")
    image, mount = folder / "disk.img", folder / "disk"
    mount.mkdir()
    with image.open("wb") as file:
        file.truncate(_BYTES)
    try:
        _run("mkfs.ext4", "-q", "-O", "^has_journal", "-m", "0", str(image))
        _run("mount", "-o", "loop", str(image), str(mount))
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no disk can be mounted: {error}")
    try:
        yield Disk(mount)
    finally:
        _run("umount", str(mount))


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=60)

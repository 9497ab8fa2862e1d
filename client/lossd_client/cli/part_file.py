"""Files that get their names when they are complete."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from lossd_client.cli.exits import Exit, fail


def part_of(path: Path) -> Path:
    """Return the temporary path of a file that is being written."""
    path = path.resolve()
    folder = path.parent if not is_special(path) else Path(tempfile.gettempdir())
    return folder / f".{path.name}.{os.getpid()}.part"


def is_special(path: Path) -> bool:
    """Return whether a path is a pipe or a device, which cannot seek."""
    return path.exists() and not path.is_file()


class PartFile:
    """A file that is being written. It gets its name when it is complete.

    Args:
        path: Its name; an attribute, too.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.part = path.resolve(), part_of(path)
        self._file: BinaryIO = self.part.open("wb")

    def write(self, data: bytes) -> None:
        """Write bytes behind those before."""
        self._file.write(data)

    def publish(self) -> None:
        """Give the file its name."""
        self._file.close()
        if is_special(self.path):
            with self.part.open("rb") as source, self.path.open("wb") as target:
                shutil.copyfileobj(source, target)
        else:
            self.part.replace(self.path)

    def discard(self) -> None:
        """Remove an unfinished file."""
        self._file.close()
        with suppress(OSError):
            self.part.unlink()


@contextmanager
def open_parts(*paths: Path | None) -> Iterator[list[PartFile | None]]:
    """Yield a file for each path, None for None; remove those that are not finished."""
    with ExitStack() as stack:
        yield [None if path is None else stack.enter_context(_open(path)) for path in paths]


@contextmanager
def _open(path: Path) -> Iterator[PartFile]:
    with writing(path):
        file = PartFile(path)
    try:
        yield file
    finally:
        file.discard()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn errors of writing a file into a message and an exit code."""
    try:
        yield
    except OSError as error:
        fail(f"cannot write {path}: {error.strerror or error}", Exit.USAGE)

"""Files that get their names when they are complete."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Final

from lossd_client.cli.exits import Exit, fail

_MOST_LINKS: Final = 40  # that are followed: as Linux has it


def part_of(path: Path) -> Path:
    """Return the temporary path of a file that is being written, which one without a name to get has not."""
    path = path.resolve()
    return path.parent / f".{path.name}.{os.getpid()}.part"


def is_special(path: Path) -> bool:
    """Return whether a path is a pipe, a device, or an open file of this process: none has a name to get."""
    return path.exists() and (not path.is_file() or _descriptor(path) is not None)


def _descriptor(path: Path) -> int | None:
    """Return the open file that a path such as /dev/stdout, or a link to one, stands for; None for others."""
    for _ in range(_MOST_LINKS):
        folder = path.parent.resolve()
        if folder in (Path("/dev/fd"), Path(f"/proc/{os.getpid()}/fd")) and path.name.isdecimal():
            return int(path.name)
        if not path.is_symlink():
            return None
        path = folder / path.readlink()
    return None


@contextmanager
def appending(path: Path) -> Iterator[BinaryIO]:
    """Yield a file that is written behind what is there.

    Opening an open file of this process again would write over what is printed to it.
    """
    number = _descriptor(path) if path.exists() else None
    if number is None:
        with path.open("ab") as file:
            yield file
        return
    sys.stdout.flush()
    with os.fdopen(os.dup(number), "wb") as file:
        yield file


class PartFile:
    """A file that is being written. It gets its name when it is complete.

    Args:
        path: Its name; an attribute, too.
    """

    def __init__(self, path: Path) -> None:
        self._is_special = is_special(path)
        self.path, self.part = path if self._is_special else path.resolve(), part_of(path)
        file: Any = tempfile.TemporaryFile() if self._is_special else self.part.open("wb")  # noqa: SIM115
        self._file: BinaryIO = file

    def write(self, data: bytes) -> None:
        """Write bytes behind those before."""
        self._file.write(data)

    def publish(self) -> None:
        """Give the file its name."""
        if self._is_special:
            self._file.seek(0)
            with appending(self.path) as target:
                shutil.copyfileobj(self._file, target)
        self._file.close()
        if not self._is_special:
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

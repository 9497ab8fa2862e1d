"""Files compressed by gzip: read as a stream, or through a temporary file."""

import gzip
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from lossd_client.cli.files.errors import BadFile
from lossd_client.cli.files.location import Location, reason

MAGIC: Final = b"\x1f\x8b"
_PIECE: Final = 1 << 20


class _Stream(gzip.GzipFile):
    """A decompressed file, which closes the compressed one."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(fileobj=file, mode="rb")
        self._compressed = file

    def close(self) -> None:
        super().close()
        self._compressed.close()


@dataclass(frozen=True, slots=True)
class GzipLocation(Location):
    """A compressed file, to be read from the first byte to the last: going back starts again."""

    @property
    def path(self) -> Path | None:
        """None, since no path leads to the content."""
        return None

    def open(self) -> BinaryIO:
        """Open the content, decompressed.

        Raises:
            BadFile: It cannot be opened.
        """
        return cast("BinaryIO", _Stream(Location.open(self)))

    @contextmanager
    def open_to_end(self) -> Iterator[BinaryIO]:
        """Open it once, and read the rest at the end: the checksum comes last."""
        with self.open() as file:
            yield file
            while file.read(_PIECE):
                pass

    def at_any_position(self) -> Location:
        """Decompress to a temporary file, which lasts as long as the returned location.

        Raises:
            BadFile: It cannot be read, or there is no room.
        """
        with self.errors(), self.open() as file:
            copy = tempfile.NamedTemporaryFile(prefix="lossd-")  # noqa: SIM115 - the location keeps it
            try:
                shutil.copyfileobj(file, copy, _PIECE)
                copy.flush()
            except gzip.BadGzipFile:
                raise
            except OSError as error:
                where = f"{self.text} cannot be decompressed in {tempfile.gettempdir()}: {reason(error)}"
                raise BadFile(f"{where}; TMPDIR names another folder") from error
        return _TemporaryLocation(self.text, copy, digest=self.digest)


@dataclass(frozen=True, slots=True)
class _TemporaryLocation(Location):
    """The decompressed copy of a file."""

    copy: Any = field(compare=False)

    @property
    def path(self) -> Path | None:
        """Where the copy is."""
        return Path(self.copy.name)

    def open(self) -> BinaryIO:
        """Open the copy."""
        return Path(self.copy.name).open("rb", buffering=0)

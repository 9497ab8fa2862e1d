"""SHA-256 of files, taken while they are read for something else."""

import hashlib
from io import RawIOBase
from typing import BinaryIO, Final

_PIECE: Final = 1 << 20


class Digest:
    """The SHA-256 of a file's bytes as they are on disk, of whatever is read first or again.

    Bytes are hashed when they are read next after those before. What was passed over, or mapped, is read when
    the digest is asked for.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._done = 0  # bytes, from the first

    def see(self, start: int, data: memoryview) -> None:
        """Look at bytes that were read.

        Args:
            start: The place of the first in the file.
            data: The bytes.
        """
        new = data[self._done - start :] if start <= self._done else data[:0]
        self._hash.update(new)
        self._done += len(new)

    def finish(self, file: BinaryIO) -> str:
        """Read the rest, and return the digest in hexadecimal."""
        file.seek(self._done)
        while piece := file.read(_PIECE):
            self.see(self._done, memoryview(piece))
        return self._hash.hexdigest()


class DigestedFile(RawIOBase):
    """An open file whose bytes a digest sees as they are read.

    Args:
        file: The file, which this closes.
        digest: The digest.
    """

    def __init__(self, file: BinaryIO, digest: Digest) -> None:
        self._file, self._digest = file, digest

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, place: int, whence: int = 0, /) -> int:
        return self._file.seek(place, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: object, /) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type] # a buffer, as io has it
        start = self._file.tell()
        count = self._file.readinto(view)  # type: ignore[attr-defined] # every binary file has it
        self._digest.see(start, view[:count])
        return int(count)

    def close(self) -> None:
        self._file.close()
        super().close()

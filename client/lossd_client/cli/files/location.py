"""Paths, and URLs that fsspec opens."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final, cast

from lossd_client.cli.files.digests import Digest, DigestedFile
from lossd_client.cli.files.errors import BadFile

_GONE: Final = (404, 410)  # HTTP's statuses for what is not there


@dataclass(frozen=True, slots=True)
class Location:
    """A path, or a URL such as s3://bucket/x.npy. It can be opened any number of times.

    Attributes:
        text: The path or URL.
        digest: Sees all bytes that are read; None if no digest is wanted.
    """

    text: str
    digest: Digest | None = field(default=None, compare=False, repr=False, kw_only=True)

    def __str__(self) -> str:
        return self.text

    @property
    def is_url(self) -> bool:
        """Whether it is a URL, which fsspec opens."""
        return "://" in self.text

    @property
    def path(self) -> Path | None:
        """The path; None for a URL."""
        return None if self.is_url else Path(self.text)

    @property
    def suffix(self) -> str:
        """What the name ends in, with its dot, in lower case; without a .gz after it."""
        name = self.text.partition("?")[0].lower().removesuffix(".gz")
        return os.path.splitext(name)[1]  # noqa: PTH122 - it may be a URL

    def is_same(self, path: Path) -> bool:
        """Return whether it is the file at this path, by whatever name."""
        own = Path(self.text.removeprefix("file://"))
        try:
            return own.samefile(path)
        except OSError:  # one of them is not there, or the other kind of URL
            return False

    def open(self) -> BinaryIO:
        """Open it for reading, at any position.

        Raises:
            BadFile: It cannot be opened.
        """
        try:
            file = self._open_url() if self.is_url else self._open_path()
            return file if self.digest is None else cast("BinaryIO", DigestedFile(file, self.digest))
        except FileNotFoundError as error:
            raise BadFile(self._why_not_found(error.__cause__)) from error
        except BadFile:
            raise
        except Exception as error:  # each kind of URL has errors of its own
            raise BadFile(f"{self.text} cannot be opened: {reason(error)}") from error

    @contextmanager
    def open_to_end(self) -> Iterator[BinaryIO]:
        """Open it for reading from the first byte to the last, once.

        Raises:
            BadFile: It cannot be opened.
        """
        with self.open() as file:
            yield file

    def sha256(self) -> str:
        """Return the SHA-256 of the file as it is stored, in hexadecimal. Only what was not read yet is read.

        Raises:
            BadFile: It cannot be read.
        """
        with self.errors(), Location(self.text).open() as file:
            return (self.digest or Digest()).finish(file)

    def at_any_position(self) -> "Location":
        """Return a location whose bytes can be read in any order."""
        return self

    def _why_not_found(self, cause: BaseException | None) -> str:
        """Return whether the file or its server was not found."""
        status = getattr(cause, "status", None)
        if not self.text.startswith(("http://", "https://")) or cause is None or status in _GONE:
            return f"there is no file {self.text}"
        if status is not None:
            return f"{self.text}: its server answers with status {status}"
        return f"{self.text} could not be reached: {reason(cause)}"

    def _open_path(self) -> BinaryIO:
        path = Path(self.text)
        if path.exists() and not path.is_file():  # a pipe can be opened only once
            raise BadFile(f"{self.text} is not a regular file")
        return path.open("rb", buffering=0)

    def _open_url(self) -> BinaryIO:
        try:
            import fsspec  # type: ignore[import-untyped]
        except ModuleNotFoundError:
            raise BadFile(f"{self.text}: URLs need fsspec: pip install 'lossd[files]'") from None
        return cast("BinaryIO", fsspec.open(self.text, "rb").open())

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn any error of reading into a BadFile that names the file."""
        try:
            yield
        except (BadFile, GeneratorExit):
            raise
        except ModuleNotFoundError as error:
            name = (error.name or "").partition(".")[0]
            raise BadFile(f"{self.text} needs {name}: pip install 'lossd[files]'") from error
        except Exception as error:  # a damaged file may raise anything that a parser knows
            raise BadFile(f"{self.text} cannot be read: {reason(error)}") from error


def reason(error: BaseException) -> str:
    """Return an error's text."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__

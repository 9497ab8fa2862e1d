"""Numpy's own files: .npy, and .npz, which is a zip of them."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from tokenize import TokenError
from typing import Any, BinaryIO, Final, cast

import numpy as np
from numpy.typing import NDArray

from lossd_client.cli.files.arrays import OBJECTS, ArraysFile, Member, StoredArray
from lossd_client.cli.files.data_file import Column, Kind
from lossd_client.cli.files.errors import BadFile
from lossd_client.cli.files.location import Location

_SUFFIX = ".npy"
_READ: Final = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


class NpyFile(ArraysFile):
    """A .npy file: one array, without a name.

    Raises:
        BadFile: It is damaged, or holds Python objects.
    """

    def __init__(self, location: Location) -> None:
        with location.errors(), location.open() as file:
            dtype, shape, fortran = _header(file)
            first = file.tell()
        if fortran:  # rows lie scattered
            location = location.at_any_position()

        @contextmanager
        def at_data() -> Iterator[BinaryIO]:
            with location.open_to_end() as opened:
                opened.seek(first)
                yield opened

        super().__init__(
            location, {"": OBJECTS if dtype.hasobject else StoredArray(dtype, shape, at_data, fortran)}
        )
        if dtype.hasobject:
            self.dimensions("")  # there is nothing else to be read

    def whole(self, column: Column) -> NDArray[Any]:
        """Read the array. A local file is mapped, and sent without a copy."""
        if self.location.path is None or column.kind is Kind.LABEL or self.unreadable:
            return super().whole(column)
        with self.location.errors():
            array: NDArray[Any] = np.lib.format.open_memmap(self.location.path, mode="r")
        return array


class NpzFile(ArraysFile):
    """A .npz file, stored or deflated: arrays by name.

    Raises:
        BadFile: It is damaged, or has no arrays.
    """

    def __init__(self, location: Location) -> None:
        members: dict[str, Member] = {}
        with location.errors(), location.open() as file, zipfile.ZipFile(file) as archive:
            for member in archive.namelist():
                name = member.removesuffix(_SUFFIX)
                if name in members:
                    raise BadFile(f"{location} holds two arrays named {name!r}")
                if name != member:
                    members[name] = _stored(location, archive, member)
        if not members:
            raise BadFile(f"{location} is a zip file without arrays")
        super().__init__(location, members)

    @property
    def notes(self) -> tuple[str, ...]:
        return self.passed_over()


def _stored(location: Location, archive: zipfile.ZipFile, member: str) -> Member:
    with archive.open(member) as file:
        dtype, shape, fortran = _header(cast("BinaryIO", file))
    if dtype.hasobject:
        return OBJECTS

    @contextmanager
    def at_data() -> Iterator[BinaryIO]:
        with location.open() as file, zipfile.ZipFile(file) as archive, archive.open(member) as opened:
            data = cast("BinaryIO", opened)
            _header(data)
            yield data

    return StoredArray(dtype, shape, at_data, fortran, is_seekable=False)


def _header(file: BinaryIO) -> tuple[np.dtype[Any], tuple[int, ...], bool]:
    """Read a .npy header, up to the first element: dtype, shape, and whether it is in Fortran order.

    Raises:
        ValueError: It is none.
    """
    with _header_errors():
        version = np.lib.format.read_magic(file)
    if version not in _READ:
        raise ValueError(f"a .npy of version {version[0]}.{version[1]} does not hold numbers")
    with _header_errors():
        shape, fortran, dtype = _READ[version](file)
    return dtype, shape, fortran


@contextmanager
def _header_errors() -> Iterator[None]:
    """Replace numpy's advice, which is for its callers, by what is wrong with a header."""
    try:
        yield
    except (ValueError, SyntaxError, TokenError) as error:
        raise ValueError("its header is cut off, damaged, or longer than an array of numbers has") from error

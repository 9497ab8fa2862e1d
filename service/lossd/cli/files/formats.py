"""Which format a file has: told by its first bytes, and a text table by its name."""

from typing import Final

from lossd.cli.files.datafile import DataFile
from lossd.cli.files.errors import BadFile
from lossd.cli.files.place import Place

_KNOWN: Final = "npy, npz, parquet, Arrow (IPC file or stream, feather), safetensors, or csv"
_TEXT: Final = (".csv", ".tsv")


def open_file(text: str) -> DataFile:
    """Opens a path or URL as what it is.

    Raises:
        BadFile: It cannot be opened, or has no format that is known here.
    """
    place = Place(text)
    with place.errors(), place.open() as file:
        head = file.read(9)
    # Imported one by one: who scores .npy files shall not wait for what others need.
    if head.startswith(b"\x93NUMPY"):
        from lossd.cli.files.npy import NpyFile

        return NpyFile(place)
    if head.startswith(b"PK\x03\x04"):
        from lossd.cli.files.npy import NpzFile

        return NpzFile(place)
    if head.startswith((b"PAR1", b"ARROW1", b"\xff\xff\xff\xff")):
        from lossd.cli.files.arrow import IpcFile, IpcStream, ParquetFile

        kind = {b"P": ParquetFile, b"A": IpcFile}.get(head[:1], IpcStream)
        return kind(place)
    if head[8:9] == b"{":
        from lossd.cli.files.safetensors import SafetensorsFile

        return SafetensorsFile(place)
    if place.suffix in _TEXT:
        from lossd.cli.files.csvfile import CsvFile

        return CsvFile(place)
    raise BadFile(
        f"{text} is no {_KNOWN}" + ("; a text table's name ends in .csv" if head else ": it is empty")
    )

"""The format of a file: found from its first bytes, that of a text table from its name."""

import io
import json
import zipfile
from collections.abc import Mapping
from typing import Final, cast

from lossd_client.cli.files.data_file import DataFile
from lossd_client.cli.files.digests import Digest
from lossd_client.cli.files.errors import BadFile
from lossd_client.cli.files.gzipped import MAGIC, GzipLocation
from lossd_client.cli.files.location import Location
from lossd_client.cli.files.partitions import PartitionedTable

_KNOWN: Final = "npy, npz, parquet, Arrow (IPC file or stream, feather), safetensors, .pt, csv or jsonl"
_CSV: Final = (".csv", ".tsv")
_JSON_LINES: Final = (".jsonl", ".ndjson")
_ANY_TEXT: Final = ("", ".txt")
_TORCH: Final = (".pt", ".pth")
_BINARY: Final = (".npy", ".npz", ".parquet", ".arrow", ".feather", ".arrows", ".ipc", ".safetensors")
_PLAIN: Final = (*_BINARY, *_CSV, *_JSON_LINES, *_TORCH)
SUFFIXES: Final[tuple[str, ...]] = (*_PLAIN, *(f"{suffix}.gz" for suffix in _PLAIN))
"""What names of files of data end in."""

_MAX_SAFETENSORS_HEADER: Final = 100_000_000  # the format's own limit
_JSON_LINE: Final = 1 << 20
_OLD_TORCH: Final = b"\x80\x02\x8a\nl\xfc\x9cF\xf9"
_NOTHING: Final[Mapping[str, str | None]] = {}


def open_file(
    text: str, partitions: Mapping[str, str | None] = _NOTHING, digest: Digest | None = None
) -> DataFile:
    """Open a path or URL with the reader of its format, decompressed if it is gzip.

    Args:
        text: The path or URL.
        partitions: Columns of one value each, which a table's folders name; a file of arrays has none.
        digest: Sees all bytes that are read.

    Raises:
        BadFile: It cannot be opened, or has no format that is known here; or a table has a column of a
            partition's name.
    """
    location = Location(text, digest=digest)
    head = _head(location)
    if head.startswith(MAGIC):
        location = GzipLocation(text, digest=digest)
        head = _head(location)
    file = _opened(location, head)
    return PartitionedTable(file, partitions) if partitions and file.is_table else file


def _head(location: Location) -> bytes:
    with location.errors(), location.open() as file:
        return file.read(1024)


def _opened(location: Location, head: bytes) -> DataFile:
    # Imported one by one, since some are slow to import.
    if head.startswith(b"\x93NUMPY"):
        from lossd_client.cli.files.npy import NpyFile

        return NpyFile(location)
    if head.startswith(b"PK\x03\x04"):
        return _zip(location.at_any_position())
    if head.startswith(_OLD_TORCH):
        from lossd_client.cli.files.torch_file import TorchFile

        return TorchFile(location.at_any_position())
    if head.startswith((b"PAR1", b"ARROW1", b"\xff\xff\xff\xff")):
        return _arrow(location, head)
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= _MAX_SAFETENSORS_HEADER:
        from lossd_client.cli.files.safetensors import SafetensorsFile

        return SafetensorsFile(location.at_any_position())
    return _text(location, head)


def _zip(location: Location) -> DataFile:
    """Open a zip: torch's has a member data.pkl, else it is .npz."""
    with location.errors(), location.open() as file, zipfile.ZipFile(file) as archive:
        is_torch = any(name.rpartition("/")[2] == "data.pkl" for name in archive.namelist())
    if is_torch:
        from lossd_client.cli.files.torch_file import TorchFile

        return TorchFile(location)
    from lossd_client.cli.files.npy import NpzFile

    return NpzFile(location)


def _arrow(location: Location, head: bytes) -> DataFile:
    from lossd_client.cli.files.arrow import IpcFile, IpcStream, ParquetFile

    if head.startswith(b"\xff"):
        return IpcStream(location)
    return {b"P": ParquetFile, b"A": IpcFile}[head[:1]](location.at_any_position())


def _text(location: Location, head: bytes) -> DataFile:
    """Open a text table, by its name, or by its first line if the name has no known suffix."""
    first = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    is_other = location.suffix in _ANY_TEXT and b"\0" not in head
    if location.suffix in _JSON_LINES or (is_other and first.startswith(b'{"')):
        from lossd_client.cli.files.json_lines import JsonLinesFile

        return JsonLinesFile(location)
    if location.suffix in _CSV or (is_other and any(mark in first.partition(b"\n")[0] for mark in b",;\t|")):
        from lossd_client.cli.files.csv_table import CsvFile

        return CsvFile(location)
    if location.suffix == ".json":
        raise BadFile(f"{location} is no {_KNOWN}; {_json_remedy(location)}")
    hint = "; a text table's name ends in .csv, .tsv or .jsonl" if head else ": it is empty"
    raise BadFile(f"{location} is no {_KNOWN}{hint}")


def _json_remedy(location: Location) -> str:
    """Return how to write a .json file as .jsonl."""
    with location.errors(), location.open() as file, io.BufferedReader(cast("io.RawIOBase", file)) as reader:
        first, second = (reader.readline(_JSON_LINE) for _ in range(2))
    try:
        is_object = isinstance(json.loads(first.removeprefix(b"\xef\xbb\xbf")), dict)
    except ValueError:
        is_object = False
    if is_object and second.lstrip().startswith(b"{"):
        return "it has an object a line: rename it .jsonl"
    return 'write one object a line, a row each, such as {"logits": 0.5, "targets": 1}, as .jsonl'

"""Stage 1 of `lossd score`: files from arguments: globs, folders, manifests and standard input."""

import glob
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final
from urllib.parse import unquote

from lossd_client.cli.files.errors import BadFile
from lossd_client.cli.files.formats import SUFFIXES
from lossd_client.cli.files.location import Location
from lossd_client.cli.inputs.pairing import ALL_BELOW, paired

STDIN: Final = "-"
_MANIFESTS: Final = (".txt", ".lst")
_HEADER: Final = re.compile(r"(logits|probabilities)\s*[,\t ]\s*targets", re.IGNORECASE)
_PARTITION: Final = re.compile(r"([^=/]+)=([^/]*)")
_NO_VALUE: Final = "__HIVE_DEFAULT_PARTITION__"  # what Hive and Spark name a folder of rows without one
_DIGITS: Final = re.compile(r"([0-9]+)")
_HEAD_BYTES: Final = 1 << 16
_PIECE_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Entry:
    """A shard: its files, as named.

    Attributes:
        files: A file that has all of it; or one with the logits, and one with the targets.
        is_typed: Whether the command line names it, so that its order may tell what it is.
        note: A note for the user on how it, and those after it, were found.
    """

    files: tuple[str, ...]
    is_typed: bool = False
    note: str | None = None


def read_shards(
    texts: Sequence[str], targets: str | None, spool: Path | None, option: str = "--targets"
) -> list[Entry]:
    """Return the shards that the arguments name.

    Args:
        texts: The arguments.
        targets: A pattern or folder of the files with the targets, if these are others.
        spool: The file with standard input, if that is one of them.
        option: What gives the targets.

    Raises:
        BadFile: There is none, or files cannot be paired.
    """
    entries = [entry for text in texts for entry in _entries(text, spool)]
    if targets is None:
        return entries
    if any(len(entry.files) > 1 for entry in entries):
        raise BadFile(f"{option} goes with files of logits, and not with a manifest of pairs")
    logits = [entry.files[0] for entry in entries]
    several = several_of(targets)
    files, pattern = ([targets], targets) if several is None else several
    pairs = paired(logits, files, pattern, option)
    return [Entry(pair, note=entry.note) for pair, entry in zip(pairs, entries, strict=True)]


def several_of(text: str) -> tuple[list[str], str] | None:
    """Return the files that a pattern or a folder stands for, and the pattern by which they are paired.

    Returns:
        None for a single file, which may be missing.

    Raises:
        BadFile: It stands for no file.
    """
    found, pattern = files_of(text), text
    if found is None and not Location(text).is_url and Path(text).is_dir():
        found, pattern = in_order(_in_folder(Path(text))), f"{Path(text)}{ALL_BELOW}"
    elif found is not None and text.endswith("/"):
        pattern = text.rstrip("/") + ALL_BELOW
    return None if found is None else ([entry.files[0] for entry in _many(text, found)], pattern)


def partitions_of(text: str) -> dict[str, str | None]:
    """Return the columns that folders such as camera=a name; None for no value."""
    folders = text.partition("?")[0].split("/")[:-1]
    found = (_PARTITION.fullmatch(folder) for folder in folders)
    return {
        unquote(match[1]): unquote(match[2]) if match[2] != _NO_VALUE else None for match in found if match
    }


def _entries(text: str, spool: Path | None) -> Iterator[Entry]:
    if text == STDIN:
        assert spool is not None
        yield from _manifest(spool, Path()) if _is_manifest(spool, Path()) else [Entry((str(spool),), True)]
    elif text.startswith("@"):
        yield from _manifest(Path(text[1:]), Path(text[1:]).parent)
    elif Location(text).is_url:
        yield from [Entry((text,), True)] if (found := files_of(text)) is None else _many(text, found)
    elif Path(text).is_dir():
        yield from _many(text, in_order(_in_folder(Path(text))))
    elif Path(text).suffix.lower() in _MANIFESTS and _is_manifest(Path(text), Path(text).parent):
        yield from _manifest(Path(text), Path(text).parent)
    else:
        yield from [Entry((text,), True)] if (found := files_of(text)) is None else _many(text, found)


def _many(text: str, files: Sequence[str]) -> list[Entry]:
    if not files:
        raise BadFile(f"{text} stands for no file of data")
    note = None
    if list(files) != sorted(files):
        shown = f"{', '.join(files[:3])} and so on, to {files[-1]}"
        note = f"{text}: its files were taken by the numbers in their names: {shown}"
    return [Entry((file,), note=None if place else note) for place, file in enumerate(files)]


def in_order(files: Iterable[str]) -> list[str]:
    """Sort names, with the numbers in them by value: x-2 comes before x-10."""
    return sorted(files, key=lambda file: (_by_numbers(file), file))


def _by_numbers(file: str) -> list[str | int]:
    return [int(part) if place % 2 else part for place, part in enumerate(_DIGITS.split(file))]


def files_of(text: str) -> list[str] | None:
    """Return the files that a pattern matches, in order; None if it is no pattern."""
    if Location(text).is_url:
        return _url_matches(text)
    if not glob.has_magic(text) or Path(text).exists():
        return None
    found = in_order(glob.glob(text, recursive=True))  # noqa: PTH207 - Path's own has no absolute patterns
    if not _is_passed_over(text.split("/")):  # what is in folders is passed over here, too
        found = [path for path in found if not _is_passed_over(path.split("/"))]
    files = [path for path in found if not Path(path).is_dir()]
    return files or [file for path in found for file in in_order(_in_folder(Path(path)))]


def _url_matches(text: str) -> list[str] | None:
    """Return the files that a URL matches: a pattern, or a folder that ends in /."""
    path = text.partition("?")[0] if text.startswith("http") else text
    if not (glob.has_magic(path) or path.endswith("/")):
        return None
    location = Location(text)
    with location.errors():
        from fsspec.core import url_to_fs  # type: ignore[import-untyped]

        system, inner = url_to_fs(text)
        if not path.endswith("/"):
            return in_order(map(str, map(system.unstrip_protocol, system.glob(inner))))
        found = [str(name) for name in system.find(inner)]
        names = [name for name in found if not _is_passed_over(name.removeprefix(inner).split("/"))]
        _refuse_others(text, names)
        return in_order(map(str, map(system.unstrip_protocol, names)))


def _in_folder(folder: Path) -> list[str]:
    found = []
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not _is_passed_over([name])]
        found += [os.path.join(parent, name) for name in names if not _is_passed_over([name])]  # noqa: PTH118
    _refuse_others(str(folder), found)
    return found


def _is_passed_over(parts: Sequence[str]) -> bool:
    """Return whether a name is hidden, or one that other programs write beside data."""
    return any(part.startswith((".", "_")) and part not in (".", "..") for part in parts)


def _refuse_others(folder: str, files: Sequence[str]) -> None:
    for file in sorted(files):
        if not file.lower().endswith(SUFFIXES):
            remedy = (
                f"take it out, or name the files by a pattern, such as '{folder.rstrip('/')}/**/*.parquet'"
            )
            raise BadFile(
                f"{folder} holds {file}, whose name ends like no file of data that is known: {remedy}"
            )


def _lines(path: Path, size: int = -1) -> list[tuple[int, str]]:
    """Return the lines that are neither empty nor comments, with their numbers."""
    location = Location(str(path))
    with location.errors(), location.open() as file:
        text = file.read(size)
    try:
        lines = text.decode("utf-8-sig", errors="strict" if size < 0 else "replace").splitlines()
    except UnicodeDecodeError as error:
        raise BadFile(f"{path} is no manifest: it is not UTF-8") from error
    stripped = ((number, line.strip()) for number, line in enumerate(lines, 1))
    found = [(number, line) for number, line in stripped if line and not line.startswith("#")]
    return found[1:] if found and _HEADER.fullmatch(found[0][1]) else found


def _is_manifest(path: Path, folder: Path) -> bool:
    """Return whether a file's first line names a file, which may be missing."""
    if path.suffix.lower() == ".lst" or not path.is_file():
        return path.is_file()
    lines = _lines(path, _HEAD_BYTES)
    if not lines or "\0" in lines[0][1]:
        return False
    try:
        first = _split(lines[0][1], folder)[0]
        there = Location(first).is_url or _beside(folder, first).is_file()
    except (OSError, ValueError):  # longer than a name can be
        return False
    return there or first.lower().endswith(SUFFIXES)


def _manifest(path: Path, folder: Path) -> Iterator[Entry]:
    lines = _lines(path)
    if not lines:
        raise BadFile(f"{path} names no files")
    for number, line in lines:
        files = _split(line, folder)
        if len(files) > 2:
            what = (
                f"{path}, line {number}: it names {len(files)} files; a line has one file, or the logits' and"
            )
            raise BadFile(f"{what} the targets', with a tab between them where names have spaces or commas")
        places = [file if Location(file).is_url else str(_beside(folder, file)) for file in files]
        for file, place in zip(files, places, strict=True):
            if not Location(file).is_url and not Path(place).exists():
                raise BadFile(f"{path}, line {number}: there is no file {place}")
        yield Entry(tuple(places))


def _split(line: str, folder: Path) -> list[str]:
    """Return the files of a line, between tabs, else commas, else spaces, unless the whole line is one."""
    if "\t" not in line and _beside(folder, line).is_file():
        return [line]
    mark = next((mark for mark in "\t," if mark in line), None)
    return [part for part in map(str.strip, line.split(mark)) if part]


def _beside(folder: Path, file: str) -> Path:
    return folder / file


@contextmanager
def spool_for(texts: Sequence[str]) -> Iterator[Path | None]:
    """Yield a temporary file for standard input, if that is one of the arguments.

    Raises:
        BadFile: Standard input is given twice; or one that names this file, which says standard input now.
    """
    if STDIN not in texts:
        yield None
        return
    if texts.count(STDIN) > 1:
        raise BadFile(f"standard input, {STDIN}, is given twice")
    number, name = tempfile.mkstemp(prefix="standard-input-")
    os.close(number)
    try:
        yield Path(name)
    except BadFile as error:
        raise BadFile(str(error).replace(name, "standard input")) from error
    finally:
        Path(name).unlink(missing_ok=True)


def with_stdin(text: str, spool: Path | None) -> str:
    """Return text with "standard input" in place of the file that stands for it."""
    return text if spool is None else text.replace(str(spool), "standard input")


def fill(spool: Path) -> None:
    """Write all of standard input to a file, since formats are read in any order."""
    source: BinaryIO = sys.stdin.buffer
    with spool.open("wb") as file:
        shutil.copyfileobj(source, file, _PIECE_BYTES)

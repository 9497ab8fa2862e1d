"""Column names of ids, which tell rows apart."""

import re
from collections.abc import Callable, Collection, Sequence
from typing import Final

from lossd_client.cli.files.data_file import DataFile

_KINDS: Final = ("image", "img", "sample", "example", "row", "file", "frame", "doc", "document")
_KNOWN: Final = frozenset(
    (
        *("id", "ids", "uid", "uuid", "guid", "key", "name", "filename", "path"),
        *(f"{kind}id" for kind in _KINDS),
    )
)
_LIKE_IDS: Final = re.compile(r".*([_\-. ](?i:ids?)|[a-z0-9]I[Dd]s?)", re.DOTALL)
_PANDAS: Final = re.compile(r"|Unnamed: \d+(\.\d+)*|__index_level_\d+__", re.ASCII)
_BETWEEN: Final = str.maketrans("", "", "_- ")


def is_known(name: str) -> bool:
    """Return whether a name is one of an id that is there once."""
    return _folded(name) in _KNOWN


def is_like_id(name: str) -> bool:
    """Return whether a name is like an id's, perhaps one that several rows share: patient_id."""
    return is_known(name) or _LIKE_IDS.fullmatch(name) is not None


def is_weak(name: str) -> bool:
    """Return whether a column may only number the rows of its file, like the index of pandas."""
    return _folded(name) == "index" or is_pandas(name)


def is_pandas(name: str) -> bool:
    """Return whether pandas gives its index this name."""
    return _PANDAS.fullmatch(name) is not None


def shared_names(
    first: DataFile, second: DataFile, used: Collection[str] = (), *, weak: bool = True
) -> list[tuple[str, str]]:
    """Return the id columns that two files share, of the surest kind.

    Args:
        first: A file.
        second: Another one.
        used: Columns that are something else.
        weak: Whether those count that may but number the rows of each file.

    Returns:
        The name in each: these may differ in case, and in what is between words.
    """
    kinds: list[Callable[[str], bool]] = [is_known, is_like_id, *([is_weak] if weak else [])]
    for kind in kinds:
        mine, its = (
            {_folded(name): name for name in flat_names(file, used) if kind(name)} for file in (first, second)
        )
        if pairs := [(name, its[key]) for key, name in mine.items() if key in its]:
            return pairs
    return []


def flat_names(file: DataFile, used: Collection[str]) -> list[str]:
    """Return the unused columns of one value a row."""
    return [
        name
        for name in file.names
        if name not in used and file.names.count(name) == 1 and file.dimensions(name) == 1
    ]


def called(names: Sequence[str]) -> str:
    """Return names for a message."""
    return ", ".join(name or "the column without a name" for name in names)


def _folded(name: str) -> str:
    return name.lower().translate(_BETWEEN)

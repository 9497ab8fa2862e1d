"""Stage 3 of `lossd score`: columns that two files share, compared, since row order matters."""

from collections.abc import Collection, Sequence
from itertools import islice
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lossd_client.cli.files.data_file import Column, DataFile, Kind
from lossd_client.cli.files.errors import BadFile
from lossd_client.cli.inputs.ids import called, flat_names, is_like_id, is_pandas, is_weak, shared_names
from lossd_client.cli.inputs.joins import Join, plain
from lossd_client.cli.inputs.shards import Shard
from lossd_client.cli.inputs.sources import Source

_ROWS: Final = 1 << 16
_BY_PLACE: Final = "rows were taken by their place"


def compare(
    scored: Source, targets: Source, used: Collection[str], joined: Join | None, *, is_asked: bool
) -> list[str]:
    """Compare the unused columns that two files share, in the order in which rows were joined.

    Args:
        scored: The inputs.
        targets: The targets, from another file.
        used: The columns that are something else.
        joined: How the rows were joined; None if they go by their place.
        is_asked: Whether the command line says by what.

    Returns:
        What a user should know.

    Raises:
        BadFile: A column has the same values in both, and in another order.
    """
    first, second = scored.file, targets.file
    keys = {*used, *(joined.names if joined is not None else ())}
    mine, its = (flat_rows(source, keys) for source in (scored, targets))
    names = [name for name in mine if name in its and not is_weak(name)]  # whose index counts its own rows
    order = joined.order if joined is not None else None
    unlike = (
        {} if not names or _are_equal(first, second, names, order) else _unlike(first, second, names, order)
    )
    by = f"rows were taken by {called(joined.names)}" if joined is not None else _BY_PLACE
    both = f"{first.location} and {second.location} both have"
    for name, (row, is_moved) in unlike.items():
        if is_moved and not is_asked:
            values = _value(first, name, row), _value(second, name, row if order is None else int(order[row]))
            what = f"{both} {called([name])}, with the same values in another order: {by}, and row {row} of"
            shown = f"{first.location} has {values[0]}, what goes with it {values[1]}"
            remedy = f"Name by --id the columns that tell rows apart, as in --id {name or 'COLUMN'}"
            raise BadFile(
                f"{what} {shown}. {remedy}; or, if rows go together as they are, take it out of one file"
            )
    notes = []
    if unlike:
        name, (row, _) = next(iter(unlike.items()))
        more = f" (and {len(unlike) - 1} more)" if len(unlike) > 1 else ""
        notes.append(f"{both} {called([name])}{more}, which differs from row {row} on; {by}")
    return notes if joined is not None else [*notes, *_other_names(first, second, mine, its)]


def _other_names(first: DataFile, second: DataFile, mine: Sequence[str], its: Sequence[str]) -> list[str]:
    """Return a note of ids under another name in each file.

    Raises:
        BadFile: These are the same, in another order.
    """
    both = set(mine) & set(its)
    ids = [[name for name in names if is_like_id(name) and name not in both] for names in (mine, its)]
    if not all(ids):
        ids = [[name for name in names if is_pandas(name) and name not in both] for names in (mine, its)]
        if not any(ids) or not (first.is_table and second.is_table):
            return []
    has = [
        f"{file.location} has {called(names[:1]) if names else 'none'}"
        for file, names in zip((first, second), ids, strict=True)
    ]
    if all(ids):
        x, y = (_hashes(file, names[:1]) for file, names in zip((first, second), ids, strict=True))
        if not np.array_equal(x, y) and np.array_equal(np.sort(x), np.sort(y)):
            what = f"{has[0]} and {has[1]}, with the same values in another order"
            raise BadFile(f"{what}: give the column one name in both, and rows are joined by it")
    return [f"{_BY_PLACE}: {has[0]}, {has[1]}; --id needs one name in both"]


def flat_rows(source: Source, used: Collection[str]) -> list[str]:
    """Return the columns of a tensor's file with one value for each of its rows."""
    file = source.file
    names = flat_names(file, used)
    return names if file.is_table else [name for name in names if file.rows(name) == source.rows]


def refuse_other_rows(name: str, own: Source, shards: Sequence[Shard]) -> None:
    """Refuse a file of weights, masks or groups whose ids are not those of the shards' rows.

    Raises:
        BadFile: A row has another id.
    """
    for which in ("scored", "targets"):
        sources = [shard.scored if which == "scored" else shard.tensors["targets"] for shard in shards]
        names = shared_names(sources[0].file, own.file, _used(shards, own), weak=len(shards) == 1)
        mine = [one for one, _ in names]
        if not names or any(not {*mine} <= {*flat_rows(source, ())} for source in sources):
            continue
        if not {its for _, its in names} <= {*flat_rows(own, ())}:
            continue
        keys = [_hashes(source.file, mine) for source in sources]
        if which == "targets":
            keys = [
                part if shard.join is None or shard.join.order is None else part[shard.join.order]
                for part, shard in zip(keys, shards, strict=True)
            ]
        rows, other = np.concatenate(keys), _hashes(own.file, [its for _, its in names])
        if rows.size == other.size and not np.array_equal(rows, other):
            row = int(np.argmax(rows != other))
            where = f"{sources[0].file.location}{f' and {len(shards) - 1} more' if len(shards) > 1 else ''}"
            its = called([name for _, name in names])
            what = f"{own.file.location}: its {its} is not that of {where} from row {row} on"
            raise BadFile(
                f"{what}, and --{name} takes rows by their place: bring the file into the same order, or put "
                "its column into the table with the logits"
            )
        return


def _used(shards: Sequence[Shard], own: Source) -> set[str]:
    sources = [*shards[0].tensors.values(), own]
    return {column.name for source in sources for column in source.columns}


def _are_equal(
    first: DataFile, second: DataFile, names: Sequence[str], order: NDArray[np.intp] | None
) -> bool:
    """Return whether all of these columns are equal in all rows, in one pass."""
    try:
        mine, its = _hashes(first, names), _hashes(second, names)
    except BadFile:  # one that cannot be read so
        return False
    return mine.size != its.size or np.array_equal(mine, its if order is None else its[order])


def _unlike(
    first: DataFile, second: DataFile, names: Sequence[str], order: NDArray[np.intp] | None
) -> dict[str, tuple[int, bool]]:
    """Return the columns that differ, from which row, and whether only their order differs."""
    found = {}
    for name in names:
        try:
            mine, its = _hashes(first, [name]), _hashes(second, [name])
        except BadFile:  # it holds what is no single value
            continue
        if order is not None:
            its = its[order]
        if mine.size == its.size and not np.array_equal(mine, its):
            found[name] = int(np.argmax(mine != its)), np.array_equal(np.sort(mine), np.sort(its))
    return found


def _hashes(file: DataFile, names: Sequence[str]) -> NDArray[np.int64]:
    """Return a hash of each row's values in some columns, 8 bytes a row, to compare them."""
    columns = [Column(name, Kind.LABEL) for name in names]
    parts = [
        np.fromiter(
            map(hash, zip(*(map(plain, block[column].tolist()) for column in columns), strict=True)),
            dtype=np.int64,
        )
        for block in file.blocks(columns, max(1, _ROWS // len(columns)))
    ]
    return np.concatenate(parts)


def _value(file: DataFile, name: str, row: int) -> Any:  # noqa: ANN401 - whatever a column holds
    column = Column(name, Kind.LABEL)
    blocks = file.blocks([column], _ROWS)
    return next(islice((value for block in blocks for value in block[column].tolist()), row, None))

"""Stage 2 of `lossd report` and `lossd compare`: the other model's outputs."""

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lossd_client.cli.files.data_file import Column, DataFile, Kind
from lossd_client.cli.files.errors import BadFile
from lossd_client.cli.files.location import Location
from lossd_client.cli.inputs.alongside import compare
from lossd_client.cli.inputs.arguments import several_of
from lossd_client.cli.inputs.ids import called, flat_names, is_known
from lossd_client.cli.inputs.joins import Join, join
from lossd_client.cli.inputs.pairing import paired
from lossd_client.cli.inputs.shards import BASELINE, Twice
from lossd_client.cli.inputs.sources import ColumnChoice, Source, refuse_unlike, seen

BASELINE_COLUMN: Final = "--baseline-column"
_ROWS: Final = 1 << 16

_SAME_TARGETS: Final = (
    "both models must be scored on the same rows with the same targets. Bring the files into one order, or "
    "name by --id what tells rows apart; if one file's targets are outdated, take them out of it"
)


@dataclass(frozen=True, slots=True)
class BaselineRule:
    """How the baseline is found and read.

    Attributes:
        option: What gives it, for messages.
        is_file: Whether that names files, and never a column of the shards.
        is_joined: Whether a file of one shard is joined to the shard by ids, and its targets are compared.
            Else its rows must stand in the shards' order.
    """

    option: str = "--baseline"
    is_file: bool = False
    is_joined: bool = False


AS_IT_STANDS: Final = BaselineRule()
"""That of `lossd report`."""


def settled(
    text: str,
    choice: ColumnChoice,
    scored: ColumnChoice,
    files: Sequence[DataFile],
    rule: BaselineRule,
) -> tuple[ColumnChoice, str | None]:
    """Return the column of the baseline, and its files; None for a column of the shards.

    Args:
        text: What the command line gives: files, or a column of the shards.
        choice: Its column, as far as it is known.
        scored: The column of the inputs.
        files: The files of the first shard.
        rule: How it is found.

    Raises:
        BadFile: It is neither files nor a column.
    """
    several = scored.several is not None
    of_shards = ColumnChoice(
        BASELINE,
        BASELINE_COLUMN,
        column=None if several else text,
        several=text if several else None,
        loss=scored.loss,
    )
    if not (rule.is_file or choice.is_given) and any(map(of_shards.named, files)):
        return of_shards, None
    if several_of(text) is None and not Location(text).is_url and not os.path.isfile(text):  # noqa: PTH113
        other = "" if rule.is_file else f", and {seen(files[0])}"
        raise BadFile(f"{rule.option} {text}: there is no such file{other}")
    return choice if choice.is_given else replace(scored, option=BASELINE_COLUMN, takes_ids=False), text


def files_of_shards(text: str | None, scored: Sequence[str], rule: BaselineRule) -> list[str]:
    """Return the file of each shard with the other model's inputs; none if one file has all rows.

    Args:
        text: The files, as the command line gives them; None if there are none.
        scored: The file of each shard with the inputs.
        rule: How they are found.

    Raises:
        BadFile: They do not go together one to one.
    """
    if text is None:
        return []
    several = several_of(text)
    if several is None:
        return [text] if rule.is_joined and len(scored) == 1 else []
    of = dict(paired(scored, several[0], several[1], rule.option))
    return [of[file] for file in scored]


def refuse_other_classes(scored: Source, baseline: Source, wanted: tuple[ColumnChoice, ColumnChoice]) -> None:
    """Refuse a baseline whose classes are others, or in another order, as far as columns' names tell.

    Args:
        scored: The inputs.
        baseline: The baseline's.
        wanted: How the columns of both were found.

    Raises:
        BadFile: They are.
    """
    if scored.is_stacked and baseline.is_stacked:
        prefixes = wanted[0].prefix, wanted[1].prefix
        refuse_unlike(scored, baseline, prefixes, wanted[0].loss, BASELINE)


class Joined(NamedTuple):
    """How a shard's baseline goes with the shard.

    Attributes:
        join: How its rows were joined to the shard's, if they were.
        twice: Its targets, if it has any.
        notes: Notes for the user on its row order.
    """

    join: Join | None
    twice: Sequence[Twice]
    notes: Sequence[str]


def joined(
    scored: Source,
    targets: Source,
    baseline: Source,
    wanted: ColumnChoice,
    used: Collection[str],
    ids: Sequence[str],
) -> Joined:
    """Join the rows of a shard's baseline to the shard's.

    Args:
        scored: The shard's inputs.
        targets: Its targets.
        baseline: The baseline's outputs, from another file.
        wanted: How columns of targets are found.
        used: The columns that are something else.
        ids: The columns by which rows are joined; empty to find them by name.

    Raises:
        BadFile: A row is in one file alone, or twice in one; or columns say that the order is another.
    """
    found = join(scored.file, baseline.file, used, ids)
    notes = compare(scored, baseline, used, found, is_asked=bool(ids))
    if found is None and not notes:
        notes = list(_without_ids(scored.file, baseline.file))
    if not wanted.named(baseline.file):
        return Joined(found, (), notes)
    its = wanted.find(baseline.file)
    return Joined(found, [Twice(targets, its, "targets", _SAME_TARGETS)], notes)


def _without_ids(first: DataFile, second: DataFile) -> Iterator[str]:
    """Yield a note if one file alone says which row is which."""
    ids = [[name for name in flat_names(file, ()) if is_known(name)][:1] for file in (first, second)]
    if any(ids) and not all(ids):
        has = (
            f"{file.location} has {called(names) if names else 'no ids'}"
            for file, names in zip((first, second), ids, strict=True)
        )
        yield f"rows of both models were taken by their place: {', '.join(has)}"


def on_unused(
    files: Sequence[DataFile], baseline: DataFile, names: Sequence[str], found: Join | None
) -> Iterator[str]:
    """Yield notes of weights and masks that are not used, where both models' files do not have the same.

    Args:
        files: The shard's files.
        baseline: The baseline's.
        names: The arrays or columns.
        found: How its rows were joined to the shard's.
    """
    for name in names:
        mine = next((file for file in files if name in file.names), None)
        its = baseline if name in baseline.names else None
        has, has_not = (mine or files[0], baseline) if its is None else (its, mine or files[0])
        if mine is not None and its is not None:
            if (row := _differs_from(mine, its, name, found)) is not None:
                both = f"{mine.location} and {its.location} both have {name!r}"
                yield f"{both}, which differs from row {row} on: are both models' rows the same?"
        elif (mine or its) is not None and has_not.names != ("",):
            yield (
                f"{has.location} has {name!r}, and {has_not.location} has none: if it is used, it is of both "
                "models' rows"
            )


def _differs_from(first: DataFile, second: DataFile, name: str, found: Join | None) -> int | None:
    """Return the first row in which two files' arrays of a name differ; None if they are alike, or unread."""
    column = Column(name, Kind.EITHER, nulls=True)
    row = 0
    try:
        for mine, its in _side_by_side(first, second, column, None if found is None else found.order):
            if mine is None or its is None or mine.shape != its.shape:
                return row
            if (unlike := np.flatnonzero((mine != its) & ((mine == mine) | (its == its)))).size:
                return row + int(unlike[0]) // max(1, mine[:1].size)  # NaN is like NaN
            row += len(mine)
    except BadFile:
        return None
    return None


def _side_by_side(
    first: DataFile, second: DataFile, column: Column, order: NDArray[np.intp] | None
) -> Iterator[tuple[NDArray[Any] | None, NDArray[Any] | None]]:
    """Yield blocks of a column of two files, those of the second in an order; None behind an end."""
    if order is not None:
        its = second.whole(column)
        yield first.whole(column), its[order] if len(its) == len(order) else its
        return
    for blocks in zip_longest(*(file.blocks([column], _ROWS) for file in (first, second))):
        a, b = (None if block is None else block[column] for block in blocks)
        yield a, b


def refuse_own_targets(baseline: Source, wanted: ColumnChoice, option: str, number: int) -> None:
    """Refuse one file for all shards that has targets, which are compared shard by shard alone.

    Raises:
        BadFile: It has.
    """
    if wanted.named(baseline.file):
        what = f"{option} {baseline.file.location} has targets of its own, for the rows of {number} shards"
        raise BadFile(
            f"{what}: give a file for each shard, whose rows are joined and whose targets are compared; or "
            "take the targets out of it, and its rows are taken by their place"
        )

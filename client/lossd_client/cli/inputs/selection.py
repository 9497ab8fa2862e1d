"""Stage 2 of `lossd score`: which column of which file each tensor is. What is unclear is refused."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Self

from lossd_client._calls.loss import Losses
from lossd_client.cli.files.data_file import DataFile, Kind
from lossd_client.cli.files.digests import Digest
from lossd_client.cli.files.errors import BadFile
from lossd_client.cli.files.formats import open_file
from lossd_client.cli.files.location import Location
from lossd_client.cli.inputs.alongside import compare, refuse_other_rows
from lossd_client.cli.inputs.arguments import Entry, partitions_of
from lossd_client.cli.inputs.baselines import (
    AS_IT_STANDS,
    BASELINE_COLUMN,
    BaselineRule,
    files_of_shards,
    joined,
    on_unused,
    refuse_other_classes,
    refuse_own_targets,
    settled,
)
from lossd_client.cli.inputs.blocks import Inputs
from lossd_client.cli.inputs.joins import join
from lossd_client.cli.inputs.options import FileOptions, ReportOptions
from lossd_client.cli.inputs.parameters import TargetsFormatName, option_of
from lossd_client.cli.inputs.shards import BASELINE, BROADCAST, EACH_ELEMENT, LABELS, Shard, Twice
from lossd_client.cli.inputs.sources import (
    ColumnChoice,
    Source,
    other_form,
    prefix_note,
    refuse_integers,
    refuse_overlap,
    refuse_unlike,
    seen,
)

_PLURALS: Final = {"by": "groups", "cluster": "clusters"}
_OWN_OPTIONS: Final = (
    "name the columns by --logits-column and --targets-column (several by --logits-columns and "
    "--targets-columns)"
)


@dataclass(frozen=True, slots=True)
class Selection:
    """What the command line says about files.

    Attributes:
        entries: The shards.
        scored: The column of the inputs.
        targets: The column of the targets.
        others: The columns of the other tensors by name, in files of their own or in the shards.
        files: The files of these by name; None for a column of the shards.
        by: The columns or files of the groups.
        clusters: Those of further groups, which `lossd compare` takes as clusters.
        ids: The columns by which two files are joined; empty to find them by name.
        row_ids: The column or file with the rows' own names, if these are wanted.
        digested: Whether the files' digests are wanted.
        baseline: How another model's files are found and read.
        is_part: Whether the entries are some of an input's.
        losses: The losses, to which weights and masks broadcast.
        not_given: The loss's parameters with a number for each class that the command line does not give.
    """

    entries: Sequence[Entry]
    scored: ColumnChoice
    targets: ColumnChoice
    others: Mapping[str, ColumnChoice]
    files: Mapping[str, str | None]
    by: Sequence[str] = ()
    clusters: Sequence[str] = ()
    ids: Sequence[str] = ()
    row_ids: str | None = None
    digested: bool = False
    baseline: BaselineRule = AS_IT_STANDS
    is_part: bool = False
    losses: Losses = EACH_ELEMENT
    not_given: Sequence[str] = ()

    @classmethod
    def of(cls, options: FileOptions, entries: Sequence[Entry]) -> Self:
        """Return the selection of the command line's options and shards."""
        loss = options.known_loss
        by_shape = bool(loss.row) and options.targets_format is None and options.targets_columns is None
        scored = ColumnChoice(
            "probabilities" if options.probabilities else loss.inputs[0],
            "--logits-column",
            column=options.logits_column,
            several=options.logits_columns,
            takes_ids=options.targets_format is TargetsFormatName.INDEX
            or (by_shape and "targets_format" in loss.own),
            loss=loss,
        )
        targets = ColumnChoice(
            "targets",
            "--targets-column",
            Kind.EITHER,
            column=options.targets_column,
            several=options.targets_columns,
            nulls=options.ignored() == "nan",
            loss=loss,
        )
        others, files = {}, {}
        for name, file, column, kind in (
            ("weight", options.weight, options.weight_column, Kind.NUMBER),
            ("mask", options.mask, options.mask_column, Kind.FLAG),
        ):
            if file is not None or column is not None:
                others[name], files[name] = ColumnChoice(name, f"--{name}-column", kind, column), file
        losses = Losses(loss, {"class_axis": options.class_axis, "per": options.per})
        by, ids = options.by or [], options.ids or []
        not_given = _not_given(options)
        return cls(entries, scored, targets, others, files, by, ids=ids, losses=losses, not_given=not_given)

    @classmethod
    def of_report(cls, options: ReportOptions, entries: Sequence[Entry]) -> Self:
        """Return the selection of a report's options and shards."""
        own = cls.of(options, entries)
        others, files = dict(own.others), dict(own.files)
        column, several = options.baseline_column, options.baseline_columns
        if options.baseline is not None or column is not None or several is not None:
            others[BASELINE] = ColumnChoice(
                BASELINE, BASELINE_COLUMN, column=column, several=several, loss=own.losses.loss
            )
            files[BASELINE] = options.baseline
        return replace(own, others=others, files=files, row_ids=options.row_ids, digested=True)

    def inputs(self) -> Inputs:
        """Open the files and return the inputs.

        Raises:
            BadFile: One cannot be used, or which column is meant is not clear.
        """
        pairs = self._pairs()
        return self._with_baseline(*pairs[0])._inputs(pairs)

    def _inputs(self, pairs: Sequence[tuple[DataFile, DataFile]]) -> Inputs:
        scored = [first.location.text for first, _ in pairs]
        baselines = files_of_shards(self.files.get(BASELINE), scored, self.baseline)
        _refuse_repeated(
            [
                file.location
                for first, second in pairs
                for file in {id(first): first, id(second): second}.values()
            ]
        )
        is_joined = self.baseline.is_joined and baselines
        if self.ids and not is_joined and any(first is second for first, second in pairs):
            raise BadFile(
                "--id joins the file with the logits to another one with the targets; here one has both"
            )
        common = {
            name: wanted.find(self._opened(file))
            for name, wanted in self.others.items()
            if (file := self.files[name]) is not None and not (name == BASELINE and baselines)
        }
        asked = [("by", text) for text in self.by] + [("cluster", text) for text in self.clusters]
        asked += [("ids", self.row_ids)] if self.row_ids else []
        labels = [self._label(number, name, text, *pairs[0]) for number, (name, text) in enumerate(asked)]
        columns = {
            label: (name, text)
            for label, (name, text) in zip(labels, asked, strict=True)
            if isinstance(label, str)
        }
        shards = [
            self._shard(first, second, columns, baselines[number] if baselines else None)
            for number, (first, second) in enumerate(pairs)
        ]
        _refuse_other_classes(shards)
        own = [
            (name, label) for label, (name, _) in zip(labels, asked, strict=True) if isinstance(label, Source)
        ]
        if BASELINE in common:
            wanted = self.scored, self.others[BASELINE]
            refuse_other_classes(shards[0].scored, common[BASELINE], wanted)
            if self.baseline.is_joined:
                refuse_own_targets(common[BASELINE], self.targets, self.baseline.option, len(shards))
        for name, source in (*common.items(), *own):
            refuse_other_rows(name, source, shards)
        for shard in shards if baselines and not is_joined else []:
            refuse_other_rows(BASELINE, shard.tensors[BASELINE], [shard])
        notes = [entry.note for entry in self.entries if entry.note is not None]
        baseline = shards[0].tensors.get(BASELINE, common.get(BASELINE))
        notes += self._unused([*pairs[0], *([baseline.file] if baseline is not None else [])])
        return Inputs(shards, common, labels, notes, is_part=self.is_part)

    def of_shard(self, shard: Shard) -> Self:
        """Return the selection of one of the shards that this one has found."""
        targets = shard.tensors["targets"].file
        files = (shard.scored.file,) if targets is shard.scored.file else (shard.scored.file, targets)
        others = dict(self.files)
        if BASELINE in shard.tensors and self.files.get(BASELINE) is not None:
            baseline = shard.tensors[BASELINE].file
            others[BASELINE] = self.files[BASELINE] if baseline in files else baseline.location.text
        entry = Entry(tuple(file.location.text for file in files))
        return replace(self, entries=[entry], files=others, is_part=True)

    def _unused(self, files: Sequence[DataFile]) -> list[str]:
        """Return notes of what the loss could use, and does not, in the files of the first shard."""
        remedies = {name: f"--{name}-column {name} uses it" for name in BROADCAST if name not in self.others}
        of_classes = {
            name: f"{option_of(name)} takes it, as numbers or from a file of its own"
            for name in self.not_given
        }
        return [
            f"{file.location} has {name!r}, which is not used; {remedy}"
            for file in {id(file): file for file in files}.values()
            for name, remedy in (remedies if file.is_table else remedies | of_classes).items()
            if name in file.names
        ]

    def _with_baseline(self, first: DataFile, second: DataFile) -> Self:
        """Return the selection with what --baseline names: columns of the shards, or files.

        Raises:
            BadFile: It is neither.
        """
        text = self.files.get(BASELINE)
        if text is None:
            return self
        choice, file = settled(text, self.others[BASELINE], self.scored, (first, second), self.baseline)
        others, files = {**self.others, BASELINE: choice}, {**self.files, BASELINE: file}
        return replace(self, others=others, files=files)

    def _label(self, number: int, name: str, text: str, first: DataFile, second: DataFile) -> str | Source:
        """Return the name of a label in the shards, or the source of one in its own file."""
        path = Location(text)
        is_file = path.is_url or (path.path is not None and path.path.is_file())
        if text in first.names or text in second.names or not is_file:
            if first.names == second.names == ("",):
                raise BadFile(f"--{name} {text}: there is no such file, and {seen(first)}, without columns")
            return f"{LABELS} {number}"
        return _flat(name, ColumnChoice(name, f"--{name}", Kind.LABEL).find(self._opened(text)))

    # Which files are shards, and which are pairs.

    def _open(self, text: str) -> DataFile:
        return self._opened(
            text,
            {
                name: value
                for name, value in partitions_of(text).items()
                if name in (*self.by, *self.clusters)
            },
        )

    def _opened(self, text: str, partitions: Mapping[str, str | None] | None = None) -> DataFile:
        return open_file(text, partitions or {}, Digest() if self.digested else None)

    def _pairs(self) -> list[tuple[DataFile, DataFile]]:
        """Open the shards: for each the file of the logits and that of the targets, which may be the same."""
        if not self.entries:
            raise BadFile("no files are named")
        opened = [[self._open(file) for file in entry.files] for entry in self.entries]
        if len(opened) == 2 and all(len(files) == 1 for files in opened):
            pair = self._as_pair(opened[0][0], opened[1][0])
            if pair is not None:
                return [pair]
        for files in opened:
            if len(files) == 1:
                self._refuse_half(files[0], len(opened))
        return [(files[0], files[-1]) for files in opened]

    def _as_pair(self, first: DataFile, second: DataFile) -> tuple[DataFile, DataFile] | None:
        """Return two files as a pair, logits first; None if they are two shards.

        Raises:
            BadFile: They are neither.
        """
        roles = [self._roles(file) for file in (first, second)]
        if roles == ["both", "both"]:
            return None
        if roles == ["targets", "logits"]:
            return second, first
        is_typed = all(entry.is_typed for entry in self.entries)
        fits = [
            found == role or (found == "either" and is_typed and wanted.may_be(file))
            for found, role, wanted, file in zip(
                roles, ("logits", "targets"), (self.scored, self.targets), (first, second), strict=True
            )
        ]
        if all(fits):
            return first, second
        if fits[0] and roles[1] == "none":
            self.targets.find(second)  # raises, since none of several is named
        if fits[1] and roles[0] == "none":
            self.scored.find(first)
        loss = self.losses.loss
        hint = other_form(first, self.scored.role, loss) or other_form(second, self.scored.role, loss)
        what = f"{seen(first)}; {seen(second)}. It is not clear what these two are"
        role = self.scored.role
        either = (
            f"shards, with {role} and targets each, or a pair, the {role} in one and the targets in the other"
        )
        remedy = f"{_OWN_OPTIONS}, or the file with the targets by --targets{hint}"
        raise BadFile(f"{what}: {either}. {remedy[0].upper()}{remedy[1:]}")

    def _roles(self, file: DataFile) -> str:
        """Return what a file has by name: logits, targets, both, none, or either if its order tells."""
        scored, targets = self.scored.named(file), self.targets.named(file)
        if scored and scored == targets:  # one name for both: their order tells
            return "either"
        if scored or targets:
            return "both" if scored and targets else "logits" if scored else "targets"
        is_first = file.names == ("",) or self.scored.is_only(file) or self.targets.is_only(file)
        return "either" if is_first else "none"

    def _refuse_half(self, file: DataFile, number: int) -> None:
        """Refuse a shard that does not have logits and targets by name."""
        if number > 1:
            for wanted in (self.scored, self.targets):
                if not wanted.named(file):
                    what = (
                        f"{seen(file)}, and no {wanted.role} by name; of {number} shards each must have both"
                    )
                    remedy = (
                        f"{_OWN_OPTIONS}, or pair files of logits with those of targets by --targets PATTERN"
                    )
                    raise BadFile(f"{what}: {remedy} or in a manifest, two files a line")
        elif len(file.names) == 1:
            what = f"column, {file.names[0]}" if file.is_table else "array"
            which = "third" if self.baseline.is_file else "second"
            raise BadFile(f"{file.location} holds one {what}: name a {which} file, with the targets")

    # Which columns a shard's tensors are.

    def _shard(
        self,
        first: DataFile,
        second: DataFile,
        labels: Mapping[str, tuple[str, str]],
        baseline: str | None,
    ) -> Shard:
        is_pair = first is not second
        tensors = {
            self.scored.role: self.scored.find(first, by_position=is_pair),
            "targets": self.targets.find(second, by_position=is_pair),
        }
        wanted = {name: each for name, each in self.others.items() if self.files[name] is None}
        wanted |= {
            label: ColumnChoice(name, f"--{name}", Kind.LABEL, column)
            for label, (name, column) in labels.items()
        }
        its = self._opened(baseline) if baseline is not None else None
        files = [first, *([second] if is_pair else []), *([its] if its and self.baseline.is_joined else [])]
        twice: list[Twice] = []
        by: dict[str, Source] = {}
        for name, each in wanted.items():
            found = [each.find(file) for file in files if each.named(file)]
            source = found[0] if found else each.find(first)
            if name in labels:
                by[name] = _flat(labels[name][0], source)
            else:
                tensors[name] = source
            twice += (Twice(found[0], other) for other in found[1:])
        if its is not None:
            tensors[BASELINE] = self.others[BASELINE].find(its)
        self._refuse_unclear(tensors, by)
        grouped = [source for name, source in by.items() if labels[name][0] != "ids"]  # ids may join the rows
        used = {column.name for source in (*tensors.values(), *grouped) for column in source.columns}
        rows = join(first, second, used, self.ids) if is_pair else None
        notes = [
            prefix_note(tensors[wanted.role], wanted.prefix, self.losses.loss)
            for wanted in (self.scored, self.targets)
            if wanted.prefix is not None
        ]
        scored, targets = tensors[self.scored.role], tensors["targets"]
        if is_pair:
            notes += compare(scored, targets, used, rows, is_asked=bool(self.ids))
        if its is None or not self.baseline.is_joined:
            return Shard(tensors, by, rows, None, twice, notes, self.losses)
        other = joined(scored, targets, tensors[BASELINE], self.targets, used, self.ids)
        unused = [name for name in BROADCAST if name not in self.others]
        notes += [*other.notes, *on_unused(files[:-1], its, unused, other.join)]
        return Shard(tensors, by, rows, other.join, [*twice, *other.twice], notes, self.losses)

    def _refuse_unclear(self, tensors: Mapping[str, Source], by: Mapping[str, Source]) -> None:
        """Refuse columns with two uses, and prefixes that match columns with another use."""
        refuse_overlap(tensors)
        if self.losses.loss.targets != "box":  # whose corners may be whole
            refuse_integers(tensors)
        scored, targets = tensors[self.scored.role], tensors["targets"]
        for wanted, source in ((self.scored, scored), (self.targets, targets)):
            others = {column.name for each in by.values() for column in each.columns} | {*self.ids}
            if wanted.prefix is not None and (found := others & {column.name for column in source.columns}):
                where = f"{source.file.location}: {found.pop()} begins with {wanted.prefix}"
                what = f"{where}, and another option names it"
                raise BadFile(f"{what}: list the {wanted.role}, as in {wanted.option}s a,b,c")
        if scored.is_stacked and targets.is_stacked:
            prefixes = self.scored.prefix, self.targets.prefix
            refuse_unlike(scored, targets, prefixes, self.losses.loss)
        if BASELINE in tensors:
            refuse_other_classes(scored, tensors[BASELINE], (self.scored, self.others[BASELINE]))


def _not_given(options: FileOptions) -> list[str]:
    """Return the loss's parameters with a number for each class that are not given."""
    loss, given = options.known_loss, {**options.own_texts(), "pos_weight": options.pos_weight}
    names = [name for name, parameter in loss.own.items() if parameter.kind == "numbers"]
    names += ["pos_weight"] if "pos_weight" in loss.parameters else []
    return [name for name in names if given.get(name) is None]


def _flat(name: str, source: Source) -> Source:
    """Return a source of labels.

    Raises:
        BadFile: It has several values a row.
    """
    if source.dimensions != 1:
        what = f"--{name}: {source.file.location} has {source.dimensions} dimensions there"
        raise BadFile(f"{what}; {_PLURALS.get(name, name)} have one")
    return source


def _refuse_other_classes(shards: Sequence[Shard]) -> None:
    """Refuse shards with other classes than the first, or in another order.

    Raises:
        BadFile: There is one.
    """
    for shard in shards[1:]:
        for name, source in shard.tensors.items():
            first = shards[0].tensors.get(name, source)
            mine, its = ([column.name for column in each.columns] for each in (source, first))
            if source.is_stacked and first.is_stacked and mine != its:
                option = f"--{name if name in ('targets', BASELINE) else 'logits'}-columns"
                what = f"{seen(source.file)}: the classes are others than in {first.file.location}"
                raise BadFile(
                    f"{what}, or in another order: list those that all have, as in {option} {','.join(its)}"
                )


def _refuse_repeated(locations: Sequence[Location]) -> None:
    """Refuse a file that is named twice: its rows would count twice.

    Raises:
        BadFile: One is.
    """
    there: dict[object, Location] = {}
    for location in locations:
        other = there.setdefault(_identity(location), location)
        if other is not location:
            also = "" if str(other) == str(location) else f", as {other} before"
            raise BadFile(f"{location} is given twice{also}: name each file once")


def _identity(location: Location) -> object:
    try:
        status = os.stat(location.text.removeprefix("file://"))  # noqa: PTH116 - what may be a URL
    except (OSError, ValueError):
        return location.text
    return status.st_dev, status.st_ino

"""`lossd score`: the losses of the rows of files.

The stages, in order:

1. `inputs/arguments.py` finds the files: globs, folders, manifests, standard input.
2. `inputs/selection.py` opens each by `files/formats.py`, which picks the reader of its format (that of a CSV
   is `files/csv_table.py`), and decides which column of which file each tensor is.
3. `inputs/joins.py` and `inputs/alongside.py` compare the rows of two files.
4. `inputs/blocks.py` reads blocks of rows.
5. `scoring/one_input.py` sends them as requests; under --by, `scoring/groups.py`. Under --engine each shard
   goes through stages 2 to 5 in a task of its own: `engines/sharded.py` and `engines/tasks.py`.
6. `scoring/losses.py` writes the file of --out, and `scoring/printing.py` prints the result.
"""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import typer

from lossd_client import LossClient, LossResult
from lossd_client._http.addresses import without_password
from lossd_client.cli.engines.engine import load_here
from lossd_client.cli.engines.opening import open_engine
from lossd_client.cli.engines.refusals import refuse_inputs, refuse_options
from lossd_client.cli.engines.sharded import Sharded
from lossd_client.cli.exits import client_errors, leave_at_signals
from lossd_client.cli.inputs.arguments import STDIN, fill, read_shards, spool_for, with_stdin
from lossd_client.cli.inputs.blocks import Inputs
from lossd_client.cli.inputs.options import ScoreOptions
from lossd_client.cli.inputs.selection import Selection
from lossd_client.cli.options import QUICK, takes
from lossd_client.cli.part_file import part_of
from lossd_client.cli.scoring.checks import refuse_impossible, refuse_overwriting, refuse_values_of_rows
from lossd_client.cli.scoring.groups import score_groups
from lossd_client.cli.scoring.losses import Losses, check_out, open_out, refuse_groups
from lossd_client.cli.scoring.one_input import score as score_inputs
from lossd_client.cli.scoring.printing import Groups, answer_of, print_groups, print_json, print_result
from lossd_client.cli.scoring.progress import progress_shown
from lossd_client.cli.scoring.request import ScoreRequest


@takes(ScoreOptions)
def score(options: ScoreOptions) -> None:
    """Score files of logits and targets: npy, npz, parquet, Arrow, csv, jsonl, safetensors or pt.

    Files are read in blocks of rows, whatever their size, and the rows of several go on from one to the next.
    The column or array of a tensor's name is taken (logits, targets), or the one that an option names; where
    it is not clear what is meant, nothing is scored.
    """
    options.check()
    out = options.out
    if out is not None:
        check_out(out)
    if options.engine is not None:
        refuse_options(options.engine, options)
    with (
        client_errors(),
        LossClient(options.url, api_key=options.api_key, timeout=options.timeout, retry=QUICK) as client,
        spool_for(options.shards) as spool,
        leave_at_signals(*filter(None, [spool, part_of(out) if out is not None else None])),
    ):
        request = ScoreRequest.of(options, options.reduction.value, options.axis)
        if spool is not None:
            fill(spool)
        selection = Selection.of(options, read_shards(options.shards, options.targets, spool))
        inputs = selection.inputs()
        request = request.of_inputs(inputs)
        _refuse_impossible(options, request, inputs)
        if options.engine is None:
            _score(client, options, request, inputs, spool)
        else:
            _score_by_engine(options.engine, options, request, selection, inputs)


def _refuse_impossible(options: ScoreOptions, request: ScoreRequest, inputs: Inputs) -> None:
    """Refuse what cannot be computed of these inputs, before anything is sent."""
    if options.by and not (
        request.axes(inputs.dimensions).is_scalar and request.can_split(inputs.dimensions)
    ):
        raise typer.BadParameter(
            "--by needs one loss a group: no --axis, no --reduction none, no classes along axis 0, no "
            "pos_weight a row, no --per class or all"
        )
    refuse_impossible(request, inputs)
    refuse_values_of_rows(inputs)
    if options.out is not None:
        refuse_overwriting("--out", options.out, inputs, options.number_files().values())
        if options.by:
            refuse_groups(options.out)


def _score_by_engine(
    name: str, options: ScoreOptions, request: ScoreRequest, selection: Selection, inputs: Inputs
) -> None:
    """Score the shards by an engine, write the file of --out, and print the answer."""
    refuse_inputs(request, inputs)
    start = time.perf_counter()
    here = load_here()
    with (
        open_engine(name, here) as engine,
        open_out(options.out, request.axes(inputs.dimensions).left) as file,
    ):
        losses = Losses(file, options.as_json)
        sharded = Sharded(engine, here, selection, inputs, request, shows=not options.no_progress)
        result, found = sharded.score()
        groups = Groups(options.by, found) if options.by else None
        if groups is None:
            losses.add(result)
        result = replace(result, notes=tuple(dict.fromkeys([*inputs.notes(), *result.notes])))
        answer = answer_of(result, groups, _about(options, inputs, None))
        if file is not None:
            file.finish(answer)
        shown = "engine", engine.shown
    _print(options, inputs, _Answered(result, answer, groups, losses), shown, start)


def _score(
    client: LossClient, options: ScoreOptions, request: ScoreRequest, inputs: Inputs, spool: Path | None
) -> None:
    """Score the inputs, write the file of --out, and print the answer."""
    start = time.perf_counter()
    axes = request.axes(inputs.dimensions)
    groups = None
    with open_out(options.out, axes.left) as file:
        losses = Losses(file, options.as_json)
        with progress_shown(client, inputs.rows, not options.no_progress) as asking:
            if options.by:
                result, found = score_groups(asking, request, inputs)
                groups = Groups(options.by, found)
            else:
                result = score_inputs(asking, request, inputs, losses.take if axes.joins_rows else _as_it_is)
        if not axes.joins_rows and groups is None:
            losses.add(result)
        notes = [with_stdin(note, spool) for note in (*inputs.notes(), *result.notes)]
        result = replace(result, notes=tuple(dict.fromkeys(notes)))
        answer = None
        if file is not None or options.as_json:
            answer = answer_of(result, groups, _about(options, inputs, spool))
        if file is not None and answer is not None:
            file.finish(answer)
    shown = "server", without_password(client.base_url)
    _print(options, inputs, _Answered(result, answer, groups, losses), shown, start)


class _Answered(NamedTuple):
    """What was computed: the result, the answer as an object if it is needed, groups, and losses of rows."""

    result: LossResult
    answer: dict[str, Any] | None
    groups: Groups | None
    losses: Losses


def _print(
    options: ScoreOptions, inputs: Inputs, answered: _Answered, shown: tuple[str, str], start: float
) -> None:
    """Print the answer; `shown` says where it is from."""
    elapsed = (time.perf_counter() - start) * 1000.0
    if options.as_json:
        assert answered.answer is not None
        print_json(answered.answer)
        return
    if answered.groups is not None:
        print_groups(answered.groups)
    print_result(answered.result, answered.losses, inputs.joined_by, shown, elapsed)


def _about(options: ScoreOptions, inputs: Inputs, spool: Path | None) -> dict[str, Any]:
    """Return what the answer says of the files."""

    def named(value: Any) -> Any:  # noqa: ANN401 - a part of a description
        if isinstance(value, list):
            return [named(item) for item in value]
        return STDIN if spool is not None and value == str(spool) else value

    read = options.number_files()
    described = [{key: named(value) for key, value in one.items()} | read for one in inputs.described()]
    return {"inputs": described} | ({"joined_by": list(inputs.joined_by)} if inputs.joined_by else {})


def _as_it_is(result: LossResult) -> LossResult:
    return result

"""What reports say about how they were made: likely mistakes, other data, other versions."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, get_args

from lossd_client._calls.parameters import LossName
from lossd_client.comparison._data import notes_on_data
from lossd_client.report import Report
from lossd_client.report._inside import totals_of

ORDER: Final = "the first is NEW, and the one that it must not be worse than comes second"
_INPUTS: Final = ("logits", "probabilities", "boxes")
_BUILT_IN: Final = get_args(LossName)


def on_reports(new: Report, baseline: Report) -> Iterator[str]:
    """Yield what follows from two reports: of one model, in the wrong order, of other data or versions."""
    if new == baseline:
        yield "Both reports have the same figures: is one model compared with itself?"
        return
    its, other = (_started(report) for report in (new, baseline))
    if its and other and its < other:
        yield (
            f"The new report was made at {new.run['started']}, before that of the baseline, "
            f"{baseline.run['started']}: {ORDER}."
        )
    yield from _on_inputs(new, baseline)
    yield from notes_on_data(new, baseline)
    yield from _on_versions(new, baseline)


def on_run(report: Report, rows: int, equal: int | None) -> Iterator[str]:
    """Yield what follows from the report of both models.

    Args:
        report: The report.
        rows: How many rows were scored.
        equal: How many of them have the same loss by both models.
    """
    shards = report.run.get("inputs") or []
    if shards and all(map(_is_its_own_baseline, shards)):
        yield "Both models' files have the same content: is one model compared with itself?"
    elif rows and equal == rows:
        yield "Both models have the same loss in every row: is one model compared with itself?"


def _started(report: Report) -> datetime | None:
    try:
        return datetime.fromisoformat(report.run["started"])
    except (KeyError, TypeError, ValueError):
        return None


def _is_its_own_baseline(shard: Mapping[str, Any]) -> bool:
    """Return whether a shard's baseline is in a file of the same bytes as its inputs, in the same columns."""
    columns: Mapping[str, Any] = shard.get("columns") or {}
    scored: Sequence[Any] = [columns.get(name) for name in _INPUTS if name in columns]
    other = shard.get("baseline") or {}
    return bool(shard.get("sha256")) and (
        other.get("sha256") == shard["sha256"] and scored == ([columns["baseline"]] if scored else [])
    )


def _on_inputs(new: Report, baseline: Report) -> Iterator[str]:
    kinds = [str(totals_of(each)["inputs"]) for each in (new, baseline)]
    if kinds[0] != kinds[1]:
        yield (
            f"The new report is of {kinds[0]}, the baseline of {kinds[1]}: the loss is the same, but "
            "probabilities near 0 and 1 were rounded before it was computed."
        )
    shapes = [totals_of(each)["row_shape"] for each in (new, baseline)]
    if None not in shapes and shapes[0] != shapes[1]:
        yield f"A row of the new report has the shape {shapes[0]}, one of the baseline {shapes[1]}."


def _on_versions(new: Report, baseline: Report) -> Iterator[str]:
    made = [f"{each.version} ({each.kernel})" for each in (new, baseline)]
    if made[0] != made[1] and None not in (new.version, baseline.version):
        follows = (
            "all of them compute the same bits, so that nothing follows from it"
            if new.loss_name in _BUILT_IN
            else "a loss that an operator has added may be another one there"
        )
        yield f"The new report was made by lossd {made[0]}, the baseline by {made[1]}: {follows}."

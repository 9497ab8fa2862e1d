"""What names and runs say about a comparison: models mixed up, a model compared with itself, other data."""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from lossd_client.comparison import Change
from lossd_client.report import Report

_OLD: Final = re.compile(r"(?<![a-z])(base|baseline|old|prev|previous|before|main|master|prod)(?![a-z])")
_NEW: Final = re.compile(r"(?<![a-z])(new|candidate|after)(?![a-z])")
_ORDER: Final = "the first is NEW, and the one that it must not be worse than comes second"


def mistaken_names(new: str, baseline: str | None) -> Iterator[str]:
    """Yield a note if names say that the baseline comes first."""
    if baseline is None:
        return
    first, second = (_bare(text) for text in _unlike(new, baseline))
    says_old = _OLD.search(first) and not _OLD.search(second)
    says_new = _NEW.search(second) and not _NEW.search(first)
    if says_old or says_new:
        yield f"{new} is taken as the new model, and {baseline} as the baseline: {_ORDER}"


def _bare(text: str) -> str:
    return text.lower().replace("_", " ")


def _unlike(new: str, baseline: str) -> tuple[str, str]:
    """Return the parts of two paths in which they differ."""
    parts = new.split("/"), baseline.split("/")
    if len(parts[0]) != len(parts[1]):
        return new, baseline
    pairs = [pair for pair in zip(*parts, strict=True) if pair[0] != pair[1]]
    return "/".join(a for a, _ in pairs), "/".join(b for _, b in pairs)


def on_reports(new: Report, baseline: Report) -> Iterator[str]:
    """Yield what follows from two reports."""
    if new == baseline:
        yield "both reports have the same figures: is one model compared with itself?"
        return
    its, other = (report.run.get("started") for report in (new, baseline))
    if its and other and datetime.fromisoformat(its) < datetime.fromisoformat(other):
        yield f"the new report was made at {its}, before that of the baseline, {other}: {_ORDER}"
    mine, others = (report.to_dict()["totals"] for report in (new, baseline))
    for name in ("rows", "elements", "positives"):
        if mine[name] != others[name]:
            yield (
                f"the new report has {mine[name]} {name}, and that of the baseline {others[name]}: they are "
                "of other data, and the difference of the losses contains that of the data"
            )
            return


def on_run(report: Report, whole: Change) -> Iterator[str]:
    """Yield what follows from the report of both models, and from its change over all rows."""
    shards = report.run.get("inputs") or []
    if shards and all(map(_is_its_own_baseline, shards)):
        yield "both models' files have the same content: is one model compared with itself?"
    elif whole.rows and whole.equal == whole.rows:
        yield "both models have the same loss in every row: is one model compared with itself?"


def _is_its_own_baseline(shard: Mapping[str, Any]) -> bool:
    """Return whether a shard's baseline is in a file of the same bytes as its logits, in the same columns."""
    columns: Mapping[str, Any] = shard.get("columns") or {}
    scored: Sequence[Any] = [columns.get(name) for name in ("logits", "probabilities") if name in columns]
    other = shard.get("baseline") or {}
    return bool(shard.get("sha256")) and (
        other.get("sha256") == shard["sha256"] and scored == ([columns["baseline"]] if scored else [])
    )

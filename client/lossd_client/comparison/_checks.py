"""What two reports must have in common to be compared, and what is said where they differ."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, get_args

from lossd_client._calls.parameters import LossName
from lossd_client.report import Report
from lossd_client.report._figures.figures import normalizer_of

_BUILT_IN: Final = get_args(LossName)
_UNSET: Final = object()


class NotComparable(ValueError):  # noqa: N818 - as the errors beside it, it says what happened
    """Two reports of which no difference would mean anything; the message says why, and what to do."""


def refuse_unlike(new: Report, baseline: Report) -> None:
    """Refuse reports that are not of the same loss.

    Raises:
        NotComparable: They differ in the loss, a parameter, or in having weights.
    """
    if new.loss_name != baseline.loss_name:
        raise NotComparable(
            f"the new report is of the loss {new.loss_name!r}, and the baseline of {baseline.loss_name!r}: "
            "score both with the same loss"
        )
    for name in {**new.params, **baseline.params}:
        its, other = (each.params.get(name, _UNSET) for each in (new, baseline))
        if its != other:
            raise NotComparable(
                f"the parameter {name} is {_shown(its)} in the new report, and {_shown(other)} in the "
                "baseline: score both with the same"
            )
    its, other = (_totals(each)["weighted"] for each in (new, baseline))
    if its != other:
        having, lacking = ("new report", "baseline") if its else ("baseline", "new report")
        raise NotComparable(
            f"the {having} has weights, and the {lacking} has none: score both with the same tensor weight"
        )


def refuse_other_rows(new: Report, baseline: Report) -> None:
    """Refuse sums over different numbers of rows, divided by the same number.

    Raises:
        NotComparable: The normalizer is a number, and the reports have not as many rows.
    """
    normalizer = normalizer_of(new.params)
    if not isinstance(normalizer, str) and new.rows_kept != baseline.rows_kept:
        raise NotComparable(
            f"the normalizer is {normalizer!r}, whatever the rows, of which the new report has "
            f"{new.rows_kept} and the baseline {baseline.rows_kept}: score both with normalizer='count', or "
            "over the same rows"
        )


def _shown(value: object) -> str:
    return "not there" if value is _UNSET else repr(value)


def notes_on_runs(new: Report, baseline: Report) -> Iterator[str]:
    """Yield what differs in how two reports were made, and what follows from it."""
    kinds = [str(_totals(each)["inputs"]) for each in (new, baseline)]
    if kinds[0] != kinds[1]:
        yield (
            f"The new report is of {kinds[0]}, the baseline of {kinds[1]}: the loss is the same, but "
            "probabilities near 0 and 1 were rounded before it was computed."
        )
    shapes = [_totals(each)["row_shape"] for each in (new, baseline)]
    if None not in shapes and shapes[0] != shapes[1]:
        yield f"A row of the new report has the shape {shapes[0]}, one of the baseline {shapes[1]}."
    yield from _other_targets(new, baseline)
    made = [f"{each.version} ({each.kernel})" for each in (new, baseline)]
    if made[0] != made[1] and None not in (new.version, baseline.version):
        follows = (
            "all of them compute the same bits, so that nothing follows from it"
            if new.loss_name in _BUILT_IN
            else "a loss that an operator has added may be another one there"
        )
        yield f"The new report was made by lossd {made[0]}, the baseline by {made[1]}: {follows}."


def _other_targets(new: Report, baseline: Report) -> Iterator[str]:
    its, other = (_targets(each) for each in (new, baseline))
    if its is None or other is None or its == other:
        return
    shared = (its & other).total()
    yield (
        f"By their SHA-256, {shared} of {its.total()} files of targets in the new report are among the "
        f"{other.total()} of the baseline: the difference of the losses contains the difference of the data."
    )


def _targets(report: Report) -> Counter[str] | None:
    """Return the digests of the files of targets; None where targets have no files of their own."""
    shards: Sequence[Mapping[str, Any]] = report.run.get("inputs") or ()
    digests = [str((shard.get("targets") or {}).get("sha256") or "") for shard in shards]
    return Counter(digests) if digests and all(digests) else None


def same_targets(new: Report, baseline: Report) -> bool:
    """Return whether two reports are known to be of the same targets."""
    its = _targets(new)
    return its is not None and its == _targets(baseline)


def _totals(report: Report) -> Mapping[str, Any]:
    totals: Mapping[str, Any] = report._document["totals"]
    return totals

"""What two reports must have in common to be compared."""

from collections.abc import Mapping
from typing import Final

from lossd_client.report import Report
from lossd_client.report._figures.figures import normalizer_of
from lossd_client.report._inside import totals_of
from lossd_client.report._merging.difference import texts


class _Unset:
    def __repr__(self) -> str:
        return "not there"


_UNSET: Final = _Unset()


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
            new_text, baseline_text = texts(its, other)
            raise NotComparable(
                f"the parameter {name} is {new_text} in the new report, and {baseline_text} in the "
                "baseline: score both with the same"
            )
    its, other = (totals_of(each)["weighted"] for each in (new, baseline))
    if its != other:
        having, lacking = ("new report", "baseline") if its else ("baseline", "new report")
        raise NotComparable(
            f"the {having} has weights, and the {lacking} has none: score both with the same tensor weight"
        )


def refuse_unknown_weights(new: Report) -> None:
    """Refuse a report of which it cannot be told whether another one has the same pos_weight.

    Raises:
        NotComparable: It has a number for each row, of which a report that adds up says the shape alone.
    """
    shown = new.params.get("pos_weight")
    if isinstance(shown, Mapping) and "sha256" not in shown:
        raise NotComparable(
            "pos_weight has numbers for each row, which reports do not hold, so that two made apart may have "
            "others: score both in one request, with baseline="
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

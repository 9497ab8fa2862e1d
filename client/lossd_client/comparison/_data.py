"""Whether two reports are of the same targets, elements and weights."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from lossd_client.comparison._checks import NotComparable
from lossd_client.report import Report
from lossd_client.report._inside import is_same, parts_of, totals_of

_SIZES: Final = ("rows", "elements")
_LEFT_OUT: Final = ("dropped", "count", "rows_dropped")
_WEIGHTS: Final = ("weight_sum_terms", "divisor_squares_terms")
# How the targets of two reports are called, and what to do if they are not the same.
_SAME: Final = ("the same targets", "")
_ALIKE: Final = (
    "targets that look the same, as there are as many rows, elements and positives",
    "; if the data are others, make both reports of files by lossd report, whose digests tell them apart",
)


def files_of(report: Report, tensor: str) -> Counter[tuple[str, str]] | None:
    """Return the SHA-256 of the files of a tensor, each with its column; None where one has no file."""
    shards: Sequence[Mapping[str, Any]] = report.run.get("inputs") or ()
    found = [
        (str((shard.get(tensor) or {}).get("sha256") or ""), repr((shard.get("columns") or {}).get(tensor)))
        for shard in shards
    ]
    return Counter(found) if found and all(digest for digest, _ in found) else None


def same_files(new: Report, baseline: Report, tensor: str) -> bool | None:
    """Return whether a tensor of both is from the same files; None where that is not known."""
    its, other = files_of(new, tensor), files_of(baseline, tensor)
    return None if its is None or other is None else its == other


def refuse_other_elements(new: Report, baseline: Report) -> None:
    """Refuse reports of the same targets of which other elements are scored, or by other weights.

    The targets are the same by the digests of their files. Where one has none, they are taken to be, if both
    have as many rows, elements and positives, by class and by group too.

    Raises:
        NotComparable: They are such.
    """
    known = same_files(new, baseline, "targets")
    if known is False or _differing(new, baseline, _SIZES):
        return
    other_positives = _differing(new, baseline, ("positives_terms",))
    if known is None and (other_positives or same_groups(new, baseline) is False):
        return
    alike, unless = _SAME if known else _ALIKE
    place = _differing(new, baseline, _LEFT_OUT)
    if place or other_positives or same_files(new, baseline, "mask") is False:
        raise NotComparable(
            f"{_left_out(new, baseline)}, over {alike}: score both with the same mask{unless}"
        )
    if same_files(new, baseline, "weight") is False:
        raise NotComparable(
            "the weights of the new report are of other files than the baseline's, by their SHA-256, over "
            f"{alike}: score both with the same tensor weight{unless}"
        )
    if place := _differing(new, baseline, _WEIGHTS):
        its, other = new.weight_sum, baseline.weight_sum
        what = (
            f"add up to {its!r}, and those of the baseline to {other!r}"
            if its != other
            else f"are not the baseline's, as their sums differ {_where(place)}"
        )
        raise NotComparable(
            f"the weights of the new report {what}, over {alike}: score both with the same tensor "
            f"weight{unless}"
        )


def notes_on_data(new: Report, baseline: Report) -> Iterator[str]:
    """Yield what follows if the two are of other data."""
    its, other = files_of(new, "targets"), files_of(baseline, "targets")
    is_other = its is not None and other is not None and its != other
    if is_other and its is not None and other is not None:
        yield (
            f"By their SHA-256, {(its & other).total()} of {its.total()} files of targets in the new report "
            f"are among the {other.total()} of the baseline: the difference of the losses contains the "
            "difference of the data."
        )
    for name in ("rows", "elements", "positives"):
        mine, others = (getattr(report, name) for report in (new, baseline))
        if mine != others:
            is_other = True
            yield (
                f"The new report has {mine} {name}, and that of the baseline {others}: they are of other "
                "data, and the difference of the losses contains that of the data."
            )
            break
    if not is_other:
        return
    if totals_of(new)["weighted"] and same_files(new, baseline, "weight") is not True:
        yield "Both have weights: the difference of the losses may be partly that of the weights."
    if not _differing(new, baseline, _SIZES) and _differing(new, baseline, _LEFT_OUT):
        what = _left_out(new, baseline).capitalize()
        yield f"{what}: if the data are the same, score both with the same mask."


def _differing(new: Report, baseline: Report, fields: Sequence[str]) -> str:
    """Return the part in which one of some fields differs: totals, classes or groups; empty if none does."""
    its, other = parts_of(new), parts_of(baseline)
    for name in its:
        if name in other and (name != "groups" or same_groups(new, baseline)):
            both = [field for field in fields if field in its[name] and field in other[name]]
            if not all(is_same(its[name], other[name], field) for field in both):
                return name
    return ""


def same_groups(new: Report, baseline: Report) -> bool | None:
    """Return whether both have groups of the same ids; None if they have none by the same names."""
    its, other = parts_of(new).get("groups"), parts_of(baseline).get("groups")
    if its is None or other is None or its["names"] != other["names"]:
        return None
    return bool(its["kinds"] == other["kinds"] and its["ids"] == other["ids"])


def _where(part: str) -> str:
    return {"totals": "in the squares", "classes": "by class", "groups": "by group"}[part]


def _left_out(new: Report, baseline: Report) -> str:
    its, other = new.dropped, baseline.dropped
    if its == other:
        return f"both leave out {_elements(its)}, and not the same ones"
    return f"the new report leaves out {_elements(its)}, the baseline {other:,}".replace(
        " baseline 0", " baseline none"
    )


def _elements(number: int) -> str:
    return "no elements" if not number else "1 element" if number == 1 else f"{number:,} elements"

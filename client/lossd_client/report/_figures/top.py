"""The rows and elements with the greatest losses, and those that differ most from the baseline."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lossd_client.report._json import Id, Json, read_id


@dataclass(frozen=True, slots=True)
class TopRow:
    """A row with one of the greatest losses, or differences.

    Attributes:
        index: The row, counted from the first of all; None where it is not known.
        id: Its id, if ids were sent.
        loss: Its loss.
        baseline: The baseline's loss, in lists of differences.
        difference: Its loss minus the baseline's, in lists of differences.
    """

    index: int | None
    id: Id | None
    loss: float
    baseline: float | None = None
    difference: float | None = None


@dataclass(frozen=True, slots=True)
class TopElement:
    """An element with one of the greatest losses, or differences.

    Attributes:
        index: The row, and the position in it; None where the row is not known.
        position: The position in the row.
        id: The row's id, if ids were sent.
        loss: The element's loss.
        logit: The logit, if the inputs are logits and each has a loss.
        probability: The probability, if the inputs are probabilities.
        target: The target; of a row of classes its target's class. None of a sample or a box, which has many.
        baseline: The baseline's loss, in lists of differences.
        difference: The loss minus the baseline's, in lists of differences.
        baseline_logit: The baseline's logit, in lists of differences.
        baseline_probability: The same for probabilities.
        predicted: The class of the greatest probability, of a row of classes.
        confidence: That probability.
        baseline_confidence: The baseline's, in lists of differences.
    """

    index: tuple[int, ...] | None
    position: tuple[int, ...]
    id: Id | None
    loss: float
    logit: float | None
    probability: float | None
    target: float | None
    baseline: float | None = None
    difference: float | None = None
    baseline_logit: float | None = None
    baseline_probability: float | None = None
    predicted: int | None = None
    confidence: float | None = None
    baseline_confidence: float | None = None


def read_rows(entries: Sequence[Json], ids: str | None, indexes: Sequence[Json] | None) -> list[TopRow]:
    """Return the rows of a list.

    Args:
        entries: The list in the document.
        ids: The kind of its ids, if it has any.
        indexes: Then its indexes, if they are known.
    """
    return [
        TopRow(
            entry["index"] if ids is None else indexes[i] if indexes else None,
            None if ids is None else read_id(ids, entry["id"]),
            **_numbers(entry, ("loss", "baseline", "difference")),
        )
        for i, entry in enumerate(entries)
    ]


def read_elements(
    entries: Sequence[Json], ids: str | None, indexes: Sequence[Json] | None
) -> list[TopElement]:
    """Return the elements of a list; see `read_rows`."""
    names = (
        *("loss", "baseline", "difference", "baseline_logit", "baseline_probability"),
        *("confidence", "baseline_confidence"),
    )
    found = []
    for i, entry in enumerate(entries):
        index = entry["index"] if ids is None else indexes[i] if indexes else None
        found.append(
            TopElement(
                index=None if index is None else tuple(index),
                position=tuple(entry["index"][1:] if ids is None else entry["position"]),
                id=None if ids is None else read_id(ids, entry["id"]),
                logit=_number(entry, "logit"),
                probability=_number(entry, "probability"),
                target=_number(entry, "target"),
                predicted=int(entry["predicted"]) if "predicted" in entry else None,
                **_numbers(entry, names),
            )
        )
    return found


def run_list(document: Mapping[str, Json], *path: str) -> Sequence[Json] | None:
    """Return the indexes of a list whose entries have ids; None where they are not known."""
    found = (document.get("run") or {}).get("top_index")
    for name in path:
        found = (found or {}).get(name)
    return found


def _number(entry: Mapping[str, Json], name: str) -> float | None:
    return float(entry[name]) if name in entry else None


def _numbers(entry: Mapping[str, Json], names: Sequence[str]) -> dict[str, Any]:
    return {name: float(entry[name]) for name in names if name in entry}

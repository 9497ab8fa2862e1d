"""What the client's other rooms read of a report beyond its figures."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossd_client.report._figures.block import Block
from lossd_client.report._figures.clusters import Clusters, Key
from lossd_client.report._figures.differences import RowDifference
from lossd_client.report._figures.figures import Classes, Figures, ranks
from lossd_client.report._figures.groups import Groups
from lossd_client.report._figures.integers import least_exponent
from lossd_client.report._view import ReportView


def totals_of(report: ReportView) -> Mapping[str, Any]:
    """Return the fields of the section totals."""
    fields: Mapping[str, Any] = report._document["totals"]
    return fields


def paired_fields(report: ReportView) -> Mapping[str, Any]:
    """Return those of the section paired, which must be there."""
    fields: Mapping[str, Any] = report._document["paired"]
    return fields


def parts_of(report: ReportView) -> Mapping[str, Block]:
    """Return the parts of a report that have counts and sums, by their names, the whole first."""
    found = {"totals": report._totals}
    if "classes" in report._document:
        found["classes"] = report._section("classes")
    if "groups" in report._document:
        found["groups"] = report.groups._part.block
    return found


def is_same(a: Block, b: Block, field: str) -> bool:
    """Return whether a field of sums' terms or of counts is the same in two parts of reports."""
    if field.removesuffix("_terms") == field:
        return np.array_equal(a.counts(field), b.counts(field))
    mine, its = a.terms(field.removesuffix("_terms")), b.terms(field.removesuffix("_terms"))
    if mine.shape[1:] != its.shape[1:]:
        return False
    depth = max(len(mine), len(its))
    return np.array_equal(_deepened(mine, depth), _deepened(its, depth), equal_nan=True)


def _deepened(terms: NDArray[np.float64], depth: int) -> NDArray[np.float64]:
    """Return terms with so many planes: those that are added are 0."""
    return np.concatenate([terms, np.zeros((depth - len(terms), *terms.shape[1:]))])


def kinds_of(groups: Groups) -> Mapping[str, str]:
    """Return the kinds of ids, "integer" or "string", by the groups' names."""
    block = groups._part.block
    return dict(zip(block["names"], block["kinds"], strict=True))


def keys_of(groups: Groups) -> list[Key]:
    """Return the ids as tuples, in ascending order."""
    return groups._keys


def class_ranks(classes: Classes) -> Mapping[int, float]:
    """Return numbers by which classes are ranked fast: their means, nearly."""
    return dict(enumerate(ranks(classes._part.block, classes._params).tolist()))


def group_ranks(groups: Groups) -> Mapping[Key, float]:
    """Return the same of groups, by their ids as tuples."""
    found = ranks(groups._block, groups._params, groups._slots.nearly)
    return dict(zip(groups._keys, found.tolist(), strict=True))


def counts_of(groups: Groups, name: str) -> list[int]:
    """Return a count of each group."""
    found: list[int] = groups._slots.counts(groups._block.counts(name)).tolist()
    return found


def sums_of(name: str, *each: Groups) -> list[Sequence[int | None]]:
    """Return the exact sums of each group of several reports, as integers of one unit."""
    exponent = least_exponent(*(groups._block.terms(name) for groups in each))
    return [groups._slots.integers(groups._block.terms(name), exponent) for groups in each]


def clusters_of(groups: Groups) -> Clusters:
    """Return groups as clusters."""
    return groups._clusters(None)


def paired_clusters(groups: Groups, baseline: Groups | None) -> Clusters:
    """Return groups as clusters, with the sums of a baseline.

    Args:
        groups: The groups.
        baseline: The same groups in the baseline's report; None if the report has the section paired.
    """
    if baseline is None:
        return groups._clusters(groups._baseline_terms)
    return groups._clusters((baseline._block.terms("sum"), baseline._slots))


def divided(figures: Figures, total: float) -> float:
    """Return a sum divided as the figures' mean is; NaN over nothing."""
    return figures._divided(total)


def has_baseline_squares(paired: RowDifference) -> bool:
    """Return whether a report says how the baseline's own losses vary; those of older versions do not."""
    return paired._has_baseline_squares

"""A comparison of two models' losses."""

from dataclasses import dataclass
from typing import Any, Final

from lossd_client.comparison._change import Change
from lossd_client.comparison._output.junit import junit
from lossd_client.comparison._output.markdown import markdown
from lossd_client.comparison._output.sentences import lines
from lossd_client.comparison._view import ComparisonView
from lossd_client.report._json import floats_as_json, id_as_json, number_as_json

SCHEMA: Final = "lossd.comparison/1"


@dataclass(frozen=True)
class Comparison(ComparisonView):
    """How a model's mean loss differs from another's, and whether it has grown by more than a bound.

    Attributes:
        loss_name: The loss, such as "focal".
        params: Its parameters.
        whole: The change over all rows.
        groups: That of each group, by its id; empty unless groups were asked for.
        by: The names that rows are grouped by.
        clusters: The names of the clusters; none if standard errors are by row.
        pairing: What is compared: "rows", "clusters", or "none" for the means of other rows.
        max_regression: The bound as it was given.
        bound: It as a number, in units of the loss, or as a part of the baseline's mean.
        is_relative: Whether it is such a part.
        confidence: The confidence of the whole, and of all groups together.
        notes: Sentences on how the two were compared, and on what may surprise.
    """

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it: numbers that are not finite are strings, large integers in ids too."""
        return {
            "schema": SCHEMA,
            "verdict": self.verdict,
            "loss": self.loss_name,
            "params": dict(self.params),
            "pairing": self.pairing,
            "by": list(self.by),
            "clusters": list(self.clusters),
            "max_regression": self.max_regression,
            "bound": self.bound,
            "is_relative": self.is_relative,
            "confidence": self.confidence,
            "whole": _as_json(self.whole),
            "groups": [
                {
                    "id": [id_as_json(each) for each in (id if isinstance(id, tuple) else (id,))],
                    **_as_json(change),
                }
                for id, change in self.groups.items()  # noqa: A001
            ],
            "notes": list(self.notes),
        }

    def to_markdown(self) -> str:
        """Return it as Markdown: the verdict, a sentence on the whole, a table, the notes."""
        return markdown(self)

    def to_junit(self, *, strict: bool = False) -> str:
        """Return it as a test report in JUnit's XML: a test case for the whole and one for each group.

        Args:
            strict: Whether an undecided one fails, too. Else it is skipped, with the reason.
        """
        return junit(self, strict=strict)

    def _repr_html_(self) -> str:
        from lossd_client.comparison._output.html import comparison_html

        return comparison_html(self)

    def __str__(self) -> str:
        return "\n".join(lines(self))


def _as_json(change: Change) -> dict[str, Any]:
    found = dict(vars(change))
    for name, value in found.items():
        if isinstance(value, float):
            found[name] = number_as_json(value)
        elif isinstance(value, tuple):
            found[name] = floats_as_json(value)
    return found

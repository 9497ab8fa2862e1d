"""A comparison as HTML, for notebooks."""

from typing import Final

from lossd_client.comparison._output.columns import HEAD, table_rows
from lossd_client.comparison._output.sentences import basis, sentence
from lossd_client.comparison._view import ComparisonView
from lossd_client.report._drawing.html import styled
from lossd_client.report._drawing.markup import escaped, tag
from lossd_client.report._drawing.tables import table

_SHOWN: Final = 50


def comparison_html(comparison: ComparisonView) -> str:
    """Return a comparison as a fragment of HTML."""
    rows, rest = table_rows(comparison, _SHOWN)
    notes = [tag("li", escaped(note)) for note in comparison.notes]
    return styled(
        tag("h1", escaped(f"{comparison.loss_name}: {comparison.verdict}")),
        tag("p", escaped(sentence(comparison.whole, comparison))),
        table(HEAD, rows, caption=basis(comparison.whole, comparison), names=2),
        tag("p", escaped(rest)) if rest else "",
        tag("ul", *notes) if notes else "",
    )

"""A comparison as Markdown, for a pull request or the summary of a CI job."""

from collections.abc import Sequence
from typing import Final

from lossd_client.comparison._output.columns import HEAD, table_rows
from lossd_client.comparison._output.sentences import basis, sentence
from lossd_client.comparison._view import ComparisonView
from lossd_client.report._drawing.markup import markdown_text

_SHOWN: Final = 50  # GitHub takes a summary of 1 MiB


def markdown(comparison: ComparisonView) -> str:
    """Return a comparison as Markdown."""
    rows, rest = table_rows(comparison, _SHOWN)
    parts = [
        f"### {markdown_text(comparison.loss_name)}: {comparison.verdict}",
        markdown_text(_first_upper(f"{sentence(comparison.whole, comparison)}.")),
        markdown_text(_first_upper(f"{basis(comparison.whole, comparison)}.")),
        "\n".join(
            [_line(HEAD), _line(["---"] * 2 + ["--:"] * (len(HEAD) - 2), plain=False), *map(_line, rows)]
        ),
        markdown_text(rest),
        "\n".join(f"- {markdown_text(note)}" for note in comparison.notes),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _first_upper(words: str) -> str:
    return words[:1].upper() + words[1:]


def _line(cells: Sequence[str], *, plain: bool = True) -> str:
    return f"| {' | '.join(markdown_text(cell) if plain else cell for cell in cells)} |"

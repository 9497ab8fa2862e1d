"""A comparison as Markdown, for a pull request or the summary of a CI job."""

import re
from collections.abc import Sequence
from typing import Final

from lossd_client.comparison._output.columns import HEAD, table_rows
from lossd_client.comparison._output.sentences import basis, sentence
from lossd_client.comparison._view import ComparisonView
from lossd_client.report._drawing.markup import escaped

_SHOWN: Final = 50  # GitHub takes a summary of 1 MiB
_SPECIAL: Final = re.compile(r"([\\`*_\[\]|~])")


def markdown(comparison: ComparisonView) -> str:
    """Return a comparison as Markdown."""
    rows, rest = table_rows(comparison, _SHOWN)
    parts = [
        f"### {_plain(comparison.loss_name)}: {comparison.verdict}",
        _plain(_first_upper(f"{sentence(comparison.whole, comparison)}.")),
        _plain(_first_upper(f"{basis(comparison.whole, comparison)}.")),
        "\n".join(
            [_line(HEAD), _line(["---"] * 2 + ["--:"] * (len(HEAD) - 2), plain=False), *map(_line, rows)]
        ),
        _plain(rest),
        "\n".join(f"- {_plain(note)}" for note in comparison.notes),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _first_upper(words: str) -> str:
    return words[:1].upper() + words[1:]


def _line(cells: Sequence[str], *, plain: bool = True) -> str:
    return f"| {' | '.join(_plain(cell) if plain else cell for cell in cells)} |"


def _plain(words: str) -> str:
    """Return text that Markdown shows as it is, on one line: names come from data."""
    return _SPECIAL.sub(r"\\\1", " ".join(escaped(words, quote=False).split()))

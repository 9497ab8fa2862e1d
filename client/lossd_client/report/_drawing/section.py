"""A section of what is shown of a report."""

from typing import Final

from lossd_client.report._drawing.markup import tag, text

LEVEL: Final = 0.95
"""The confidence of all intervals that are shown."""

NAMES_ALONE: Final = 8
"""So many of the names that rows are grouped by are shown each alone."""


class Section:
    """A titled part.

    Args:
        title: Its heading.
        parts: What follows, as markup.
    """

    def __init__(self, title: str, *parts: str) -> None:
        self.title = title
        self.parts = parts

    def drawn(self, name: str, *, has_id: bool) -> str:
        """Return it as HTML.

        Args:
            name: What the section is called in the markup.
            has_id: Whether links of the same page lead to it; a notebook shows many reports on one page.
        """
        return tag(
            "section",
            tag("h2", text(self.title)),
            *self.parts,
            class_="lossd-section",
            data_section=name,
            id=f"lossd-{name}" if has_id else None,
        )

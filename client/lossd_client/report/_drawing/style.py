"""The style of reports: one file, which pages and notebooks have inside, and the server's page links to."""

from functools import cache
from pathlib import Path


@cache
def style() -> str:
    """Return the text of report.css, without what is said for its readers."""
    text = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    return text[text.index("*/") + 2 :].strip()

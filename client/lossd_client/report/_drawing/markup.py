"""Elements of HTML and SVG, with everything from outside escaped, and numbers for people to read."""

import math
import re
from collections.abc import Sequence
from html import escape
from typing import Final

_UNPRINTABLE: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_OF_MARKDOWN: Final = re.compile(r"([\\`*_\[\]|~])")
NEEDS_ROWS: Final = "needs two rows"
_LONGEST: Final = 200  # characters of a name that are shown


def escaped(value: object, *, quote: bool = True) -> str:
    """Return a value as text that is safe within an element, and with `quote` within an attribute."""
    return escape(_UNPRINTABLE.sub("\ufffd", str(value)), quote=quote)


def markdown_text(words: str) -> str:
    """Return text that Markdown shows as it is, on one line, and that notifies nobody."""
    shown = _OF_MARKDOWN.sub(r"\\\1", " ".join(escaped(words, quote=False).split()))
    return shown.replace("@", "@&#8203;")  # a space of no width: of \\@name, GitHub would tell name


def text(value: object) -> str:
    """Return the same, cut off where it is too long to be shown."""
    shown = str(value)
    return escaped(shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST - 1]}…")


def tag(name: str, /, *inside: str, **attributes: object) -> str:
    """Return an element.

    Args:
        name: The element's name.
        inside: What is in it: markup.
        attributes: Its attributes, escaped here; None leaves one out. `class_` is class, and _ is -.
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escaped(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{given}>{''.join(inside)}</{name}>"


def number(value: float | None, digits: int = 6) -> str:
    """Return a number for people to read."""
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return f"{value:.{digits}g}"


def counted(count: int, one: str, several: str | None = None) -> str:
    """Return a count with its noun."""
    return f"{count:,} {one if count == 1 else several or f'{one}s'}"


def percent(share: float) -> str:
    """Return a share for people to read."""
    return f"{100 * share:.3g} %" if math.isfinite(share) else "-"


def spanned(interval: tuple[float, float], rows: int) -> str:
    """Return the interval of a figure of so many rows for people to read."""
    low, high = interval
    if math.isnan(low):
        return NEEDS_ROWS if rows < 2 else "not known"
    return f"{number(low)} to {number(high)}"


def spread(stderr: float, rows: int) -> str:
    """Return a standard error likewise."""
    return NEEDS_ROWS if math.isnan(stderr) and rows < 2 else number(stderr)


def joined(names: Sequence[str]) -> str:
    """Return names as a sentence has them."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def figure(picture: str, caption: str = "") -> str:
    """Return a picture with what is said below it."""
    return tag("figure", picture, tag("figcaption", text(caption)) if caption else "")


def beside(*figures: str) -> str:
    """Return pictures beside each other where there is room."""
    return tag("div", *figures, class_="lossd-beside")


def details(summary: str, *parts: str) -> str:
    """Return parts that are shown when they are asked for."""
    return tag("details", tag("summary", text(summary)), *parts)

"""Pictures as inline SVG: bars, curves, and a histogram's columns. No scripts, no other files.

Each has a title and a description in words. Lines and text have the colour of the text around them, and what
is filled has colours of middle lightness, so that both light and dark pages show them.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from lossd_client.report._drawing.markup import escaped, number, tag, text

WIDTH: Final = 480
_ROW: Final = 22  # the height of a bar and its gap
_NAMES: Final = 160  # the width of the names beside bars
_FIGURES: Final = 80  # that of the figures behind them
_CHARACTERS: Final = 18  # of a name that fit
_CHARACTER: Final = 10  # the most width of a digit
_HEIGHT: Final = 260  # of a diagram
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 14, 12, 46  # around its area
_TICKS: Final = 5
_LINE: Final = 15  # the height of a line of text above a diagram
_LEGEND: Final = 20  # the height of what is above a diagram
_COLOURS: Final = ("lossd-first", "lossd-second", "lossd-third")
_TENTHS: Final = (0.0, math.log10(2), math.log10(5))


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar.

    Attributes:
        name: What it is of.
        value: Its length; what is not finite is written and not drawn.
        note: What is said of it beside its value.
        interval: Where the true value may lie, drawn as a line over its end, as far as there is room.
    """

    name: str
    value: float
    note: str = ""
    interval: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis of a diagram, from `low` to `high`, both finite; a logarithmic one has powers of two.

    Attributes:
        label: What it shows.
        low: Its first value; the binary logarithm of it if `is_log`.
        high: Its last value.
        is_log: Whether places are logarithms.
    """

    label: str
    low: float
    high: float
    is_log: bool = False

    def share(self, value: float) -> float:
        """Return how far along the axis a value lies, from 0 to 1."""
        span = self.high / 2 - self.low / 2  # halves cannot overflow
        return min(1.0, max(0.0, (value / 2 - self.low / 2) / span)) if span > 0 else 0.5

    def ticks(self) -> list[tuple[float, str]]:
        """Return round values along the axis, and their labels."""
        if self.is_log:
            return self._powers()
        span = self.high / 2 - self.low / 2
        if not 1e-290 < span < 1e300:
            return [(value, number(value, 3)) for value in dict.fromkeys((self.low, self.high))]
        step = _round_step(2 * span / _TICKS)
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [(place * step, _tick(place * step)) for place in range(first, last + 1)]

    def _powers(self) -> list[tuple[float, str]]:
        """Return powers of ten, and twice and five times these where there are few, or else the ends."""
        low, high = self.low * math.log10(2), self.high * math.log10(2)
        step = max(1, math.ceil((high - low) / _TICKS))
        powers = [power for power in range(math.ceil(low), math.floor(high) + 1) if power % step == 0]
        if len(powers) > 1:
            return [(power / math.log10(2), f"1e{power}" if power else "1") for power in powers]
        more = [power + share for power in range(math.floor(low), math.ceil(high)) for share in _TENTHS]
        ticks = [(power / math.log10(2), _tick(10.0**power)) for power in more if low <= power <= high]
        return ticks if len(ticks) > 1 else [(end, _power(end)) for end in (self.low, self.high)]


def _tick(value: float) -> str:
    """Return a label of an axis."""
    rounded = float(f"{value:.4g}")
    return f"{rounded:,.0f}" if 1000 <= abs(rounded) < 1e9 and rounded.is_integer() else number(rounded, 4)


def _round_step(least: float) -> float:
    """Return the least of 1, 2, 5, 10 and their kin that is not below a number."""
    power: float = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10, 20) if factor * power >= least * 0.999)


@dataclass(frozen=True, slots=True)
class Curve:
    """Points of a diagram, joined by a line.

    Attributes:
        name: What it shows.
        points: Places, ascending along the first axis; those that are not finite are left out.
        sizes: The share of each point, from 0 to 1, which its dot's area shows; None for no dots.
        place: Which of the colours it has: 0, 1 or 2.
    """

    name: str
    points: Sequence[tuple[float, float]]
    sizes: Sequence[float] | None = None
    place: int = 0


def bars(title: str, rows: Sequence[Bar]) -> str:
    """Return horizontal bars, one below the other, in the order given."""
    scale = _bar_scale(rows)
    drawn = (mark for place, row in enumerate(rows) for mark in _bar(place, row, scale))
    shown = "; ".join(f"{row.name} {number(row.value)}" for row in rows)
    return _svg(title, shown, len(rows) * _ROW + 4, *drawn)


def _bar_scale(rows: Sequence[Bar]) -> Axis:
    """Return the axis along bars: with room for intervals, but not for those of a few rows alone."""
    values = [row.value for row in rows if math.isfinite(row.value)]
    low, high = min([0.0, *values]), max([0.0, *values])
    ends = [end for row in rows if row.interval for end in row.interval if math.isfinite(end)]
    least, most = (limit * 1.5 if math.isfinite(limit * 1.5) else limit for limit in (low, high))
    return Axis("", max(least, min([low, *ends])), min(most, max([high, *ends])))


def _bar(place: int, row: Bar, scale: Axis) -> Iterator[str]:
    def at(value: float) -> float:
        return _NAMES + 8 + scale.share(value) * (WIDTH - _NAMES - _FIGURES - 16)

    top, middle = place * _ROW + 4, place * _ROW + 15
    name = row.name if len(row.name) <= _CHARACTERS else f"{row.name[: _CHARACTERS - 1]}…"
    said = f"{row.name}: {number(row.value)}{f', {row.note}' if row.note else ''}"
    yield tag(
        "g",
        tag("title", text(said)),
        _words(_NAMES, middle + 1, name, anchor="end"),
        *_filled(row, scale, at, top),
        _words(WIDTH, middle + 1, number(row.value, 4), anchor="end"),
    )


def _filled(row: Bar, scale: Axis, at: Callable[[float], float], top: float) -> Iterator[str]:
    if not math.isfinite(row.value):
        return
    first, last = sorted((at(0.0), at(row.value)))
    yield tag(
        "rect", x=_px(first), y=top, width=_px(max(1.0, last - first)), height=_ROW - 8, class_="lossd-fill"
    )
    if row.interval is not None and all(map(math.isfinite, row.interval)):
        low, high = map(at, row.interval)
        y = top + (_ROW - 8) / 2
        limits = zip(row.interval, (low, high), strict=True)
        caps = "".join(f"M{_px(x)} {y - 4}v8" for end, x in limits if scale.low <= end <= scale.high)
        yield tag("path", d=f"M{_px(low)} {y}H{_px(high)}{caps}", class_="lossd-line")


def diagram(title: str, across: Axis, up: Axis, curves: Sequence[Curve], *, diagonal: bool = False) -> str:
    """Return curves over two axes, with a legend if there are several.

    Args:
        title: What it shows.
        across: The horizontal axis.
        up: The vertical axis.
        curves: The curves.
        diagonal: Whether to draw the line from the lower left to the upper right, too.
    """
    area = _Area(across, up)
    marks = [area.frame()]
    if diagonal:
        line = f"M{_LEFT} {_HEIGHT - _BOTTOM}L{WIDTH - _RIGHT} {_TOP}"
        marks.append(tag("path", d=line, class_="lossd-faint"))
    for curve in curves:
        marks.extend(area.curve(curve))
    above = _LEGEND if len(curves) > 1 else 0
    if above:
        marks.extend(_legend(curves))
    said = "; ".join(_said(curve) for curve in curves)
    return _svg(title, f"{across.label} across, {up.label} up. {said}", _HEIGHT, *marks, above=above)


def columns(
    title: str,
    across: Axis,
    up: Axis,
    edges: Sequence[float],
    counts: Sequence[int],
    lines: Sequence[tuple[str, float]] = (),
) -> str:
    """Return a histogram: a column between each two edges.

    Args:
        title: What it shows.
        across: The horizontal axis.
        up: The vertical axis.
        edges: Places along the first, one more than there are columns.
        counts: The columns' heights.
        lines: Ascending places along the first that are marked, with their names.
    """
    area = _Area(across, up)
    marks = [area.frame()]
    for low, high, count in zip(edges, edges[1:], counts, strict=False):
        if count:
            x, end, y = area.x(low), area.x(high), area.y(count)
            said = f"{_power(low)} to {_power(high)}: {count:,}"
            marks.append(
                tag(
                    "rect",
                    tag("title", text(said)),
                    x=_px(x),
                    y=_px(min(y, _HEIGHT - _BOTTOM - 1.0)),
                    width=_px(max(1.0, end - x - 1)),
                    height=_px(max(1.0, _HEIGHT - _BOTTOM - y)),
                    class_="lossd-fill",
                )
            )
    for place, (name, value) in enumerate(lines):
        marks.extend(_marked(area.x(value), f"{name}: {_power(value)}", place))
    most = max(range(len(counts)), key=counts.__getitem__)
    first, last = map(_power, edges[most : most + 2])
    words = [f"Most between {first} and {last}: {counts[most]:,}."]
    words += [f"{name} are at most {_power(value)}." for name, value in lines]
    axes = f"{across.label} across, {up.label} up."
    above = _LINE * len(lines)
    return _svg(title, " ".join([axes, *words]), _HEIGHT, *marks, above=above)


def _marked(x: float, label: str, place: int) -> Iterator[str]:
    """Yield a line through a diagram, and its label above it: those to the right are higher."""
    top = _TOP - _LINE * (place + 1) + 6
    yield tag("path", d=f"M{_px(x)} {_px(top - 9)}V{_HEIGHT - _BOTTOM}", class_="lossd-mark")
    is_left = x < _LEFT + 100
    yield _words(_px(x + 5 if is_left else x - 5), _px(top), label, anchor="start" if is_left else "end")


def shares(title: str, parts: Sequence[tuple[str, int]]) -> str:
    """Return one bar that counts are the parts of."""
    total = sum(count for _, count in parts) or 1
    marks, start = [], 0.0
    for place, (name, count) in enumerate(parts):
        width = WIDTH * (count / total)
        kind = ("lossd-fill", "lossd-other", "lossd-rest")[min(place, 2)]
        marks.append(
            tag(
                "rect",
                tag("title", text(f"{name}: {count:,}")),
                x=_px(start),
                y=2,
                width=_px(width),
                height=16,
                class_=kind,
            )
        )
        start += width
    return _svg(title, "; ".join(f"{name} {count:,}" for name, count in parts), 22, *marks)


@dataclass(frozen=True, slots=True)
class _Area:
    """The area between two axes."""

    across: Axis
    up: Axis

    def x(self, value: float) -> float:
        return _LEFT + self.across.share(value) * (WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        return _HEIGHT - _BOTTOM - self.up.share(value) * (_HEIGHT - _BOTTOM - _TOP)

    def frame(self) -> str:
        """Return the axes with their ticks and labels."""
        floor = _HEIGHT - _BOTTOM
        marks = [tag("path", d=f"M{_LEFT} {_TOP}V{floor}H{WIDTH - _RIGHT}", class_="lossd-line")]
        for value, label in self.across.ticks():
            x = self.x(value)
            middle = min(x, WIDTH - _CHARACTER * len(label) / 2)
            marks.append(tag("path", d=f"M{_px(x)} {floor}v4", class_="lossd-line"))
            marks.append(_words(_px(middle), floor + 17, label))
        for value, label in self.up.ticks():
            y = self.y(value)
            marks += [
                tag("path", d=f"M{_LEFT} {_px(y)}H{WIDTH - _RIGHT}", class_="lossd-faint"),
                _words(_LEFT - 6, _px(y + 4), label, anchor="end"),
            ]
        middle = (_LEFT + WIDTH - _RIGHT) / 2
        marks.append(_words(_px(middle), _HEIGHT - 8, self.across.label))
        turned = f"rotate(-90 12 {floor / 2 + 6})"
        marks.append(_words(12, _px(floor / 2 + 6), self.up.label, transform=turned))
        return "".join(marks)

    def curve(self, curve: Curve) -> Iterator[str]:
        kind = _COLOURS[curve.place]
        sizes: Sequence[float | None] = curve.sizes or [None] * len(curve.points)
        finite = [
            (self.x(x), self.y(y), size)
            for (x, y), size in zip(curve.points, sizes, strict=True)
            if math.isfinite(x) and math.isfinite(y)
        ]
        line = "L".join(f"{_px(x)} {_px(y)}" for x, y, _ in finite)
        if len(finite) > 1:
            yield tag("path", d=f"M{line}", class_=f"lossd-curve {kind}")
        for x, y, size in finite:
            if size is not None or len(finite) == 1:
                radius = 2 + 5 * math.sqrt(min(1.0, size or 0.0))
                yield tag("circle", cx=_px(x), cy=_px(y), r=_px(radius), class_=f"lossd-dot {kind}")


def _legend(curves: Sequence[Curve]) -> Iterator[str]:
    """Yield the names of curves beside each other, above the diagram."""
    width = (WIDTH - _LEFT) / len(curves)
    most = int(width / 9)  # characters
    for place, curve in enumerate(curves):
        x, y = _LEFT + place * width, -_LEGEND / 2
        name = curve.name if len(curve.name) <= most else f"{curve.name[: most - 1]}…"
        yield tag("path", d=f"M{_px(x)} {y:g}h24", class_=f"lossd-curve {_COLOURS[curve.place]}")
        yield _words(_px(x + 32), f"{y + 4:g}", name, anchor="start")


def _said(curve: Curve) -> str:
    if not curve.points:
        return f"{curve.name}: no points"
    (x, y), (end_x, end_y) = curve.points[0], curve.points[-1]
    whence = f"({number(x, 3)}, {number(y, 3)})"
    return f"{curve.name}: from {whence} to ({number(end_x, 3)}, {number(end_y, 3)})"


def _power(exponent: float) -> str:
    """Return a power of two for people to read."""
    return number(2.0**exponent if exponent < 1024 else math.inf, 3)


def _svg(title: str, said: str, height: float, *marks: str, above: float = 0) -> str:
    return tag(
        "svg",
        tag("title", text(title)),
        tag("desc", escaped(said)),
        *marks,
        viewBox=f"0 {0 - above:g} {WIDTH} {height + above:g}",
        role="img",
        aria_label=title,
        class_="lossd-picture",
    )


def _words(x: object, y: object, words: str, *, anchor: str = "middle", transform: str | None = None) -> str:
    return tag("text", text(words), x=x, y=y, text_anchor=anchor, transform=transform)


def _px(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")

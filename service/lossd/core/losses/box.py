"""Losses of matched boxes: 1 less what the boxes have in common, by one of four measures.

Intersection over union, and what generalized IoU makes of it (Rezatofighi and others, "Generalized
Intersection over Union", https://arxiv.org/abs/1902.09630); distance IoU and complete IoU (Zheng and others,
"Distance-IoU Loss", https://arxiv.org/abs/1911.08287)::

    iou = common / all                     all: the area of both, less the common one
    giou = iou - (around - all) / around   around: the area of the smallest box around both
    diou = iou - d^2 / c^2                 d: the distance of the centres; c: the diagonal of that box
    ciou = diou - v^2 / (1 - iou + v)      v = 4 / pi^2 (atan(w' / h') - atan(w / h))^2

Nothing is added to the divisors. A ratio of 0 to 0 is 0: of two boxes without area iou is 0, and giou is 0
where the box around both has none.

Nearly equal boxes keep their digits: no step subtracts rounded numbers that are nearly equal. What each box
has beyond the other along each axis is a difference of coordinates. From these follow the areas that are not
common, and those in neither, as sums of products. The difference of the two angles comes, by one arctangent,
from how much wider and higher a box is. The error stays below 8 units of the last place. Lengths are scaled
by powers of two, so that no area is too large or too small for float64.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import torch
from torch import Tensor

from lossd.core.losses.arctangent import arctangent
from lossd.core.losses.elements import Formula
from lossd.core.losses.pairs import bits_of, float_of, minus, plus, sum_of
from lossd.core.losses.rows import RowLosses, Rows

_4_OVER_PI_SQUARED: Final = float.fromhex("0x1.9f02f6222c720p-2")
_EIGHTH: Final = 0.125


def box(how: Formula, rows: Rows) -> RowLosses:
    """Return the losses of boxes, [n, 4], which are finite and not inverted; NaN of one that has a NaN."""
    assert rows.y is not None
    ends = how.own["format"] == "xyxy"
    between = _Interval.of_ends if ends else _Interval.of_centres
    boxes, targets = (rows.x * _EIGHTH).T.contiguous(), (rows.y * _EIGHTH).T.contiguous()
    x = between(boxes[0], boxes[2], targets[0], targets[2])
    y = between(boxes[1], boxes[3], targets[1], targets[3])
    loss = _losses(str(how.own["variant"]), x, y)
    all_of = (x.left + x.right) + (y.left + y.right)
    return RowLosses(torch.where(all_of.isnan(), math.nan, loss), torch.ones_like(loss))


class _Interval(NamedTuple):
    """Two intervals, a box's and its target's along one axis: an eighth of each, so that nothing overflows.

    Attributes:
        size: The box's.
        target_size: The target's.
        growth: The target's size less the box's.
        left: By how much the box reaches beyond the target; below 0 the other way round.
        right: The same at the other end.
        across: From the target's first end to the box's last.
        back: From the box's first end to the target's last.
        shift: Of the box's centre from the target's, twice.
    """

    size: Tensor
    target_size: Tensor
    growth: Tensor
    left: Tensor
    right: Tensor
    across: Tensor
    back: Tensor
    shift: Tensor

    @classmethod
    def of_ends(cls, a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> _Interval:
        """Return the intervals from a to b, and from c to d."""
        size, target = sum_of(b, -a), sum_of(d, -c)
        growth = (target.hi - size.hi) + (target.lo - size.lo)
        left, right = c - a, b - d
        return cls(size.hi, target.hi, growth, left, right, b - c, d - a, right - left)

    @classmethod
    def of_centres(cls, a: Tensor, size: Tensor, c: Tensor, target_size: Tensor) -> _Interval:
        """Return the intervals around a and c."""
        shift, wider = sum_of(a, -c), sum_of(0.5 * size, -(0.5 * target_size))
        left, right = plus(wider, minus(shift)), plus(wider, shift)
        middle = 0.5 * size + 0.5 * target_size
        return cls(
            size,
            target_size,
            target_size - size,
            left.hi + left.lo,
            right.hi + right.lo,
            middle + shift.hi,
            middle - shift.hi,
            2.0 * shift.hi,
        )


class _Overlap(NamedTuple):
    """What two intervals have in common and what not, scaled so that what spans both is 1 to 2.

    Attributes:
        size: The box's.
        target_size: The target's.
        common: What both have; at most 0 where they are apart.
        own: What only the box has, where they are not apart.
        target_own: What only the target has.
        span: From the first end of either to the last.
        scale: The factor.
        unscaled: The span without it.
    """

    size: Tensor
    target_size: Tensor
    common: Tensor
    own: Tensor
    target_own: Tensor
    span: Tensor
    scale: Tensor
    unscaled: Tensor


def _overlap(at: _Interval) -> _Overlap:
    left, right = at.left > 0.0, at.right > 0.0
    common = torch.where(
        right, torch.where(left, at.target_size, at.back), torch.where(left, at.across, at.size)
    )
    span = torch.where(
        right, torch.where(left, at.size, at.across), torch.where(left, at.back, at.target_size)
    )
    scale = _scale_of(span)
    return _Overlap(
        at.size * scale,
        at.target_size * scale,
        common * scale,
        (_above_0(at.left) + _above_0(at.right)) * scale,
        (_above_0(-at.left) + _above_0(-at.right)) * scale,
        span * scale,
        scale,
        span,
    )


def _scale_of(size: Tensor) -> Tensor:
    """Return the power of two that brings a size >= 0 into [1, 2); 0 stays 0."""
    return float_of((2046 - (bits_of(size) >> 52 & 0x7FF)) << 52)


def _above_0(value: Tensor) -> Tensor:
    return torch.where(value > 0.0, value, 0.0)


def _ratio(over: Tensor, under: Tensor, otherwise: float) -> Tensor:
    """Return a ratio of numbers >= 0; something else where the divisor is 0."""
    return torch.where(under > 0.0, over / under, otherwise)


def _losses(variant: str, x: _Interval, y: _Interval) -> Tensor:
    over_x, over_y = _overlap(x), _overlap(y)
    meet = (over_x.common > 0.0) & (over_y.common > 0.0)
    distance = _distance_of_areas(over_x, over_y, meet)
    if variant == "iou":
        return distance
    if variant == "giou":
        return distance + _gap(over_x, over_y, meet)
    loss = distance + _offset(x, y, over_x, over_y)
    return loss + _shape_cost(_angle(x, y), distance) if variant == "ciou" else loss


def _distance_of_areas(x: _Overlap, y: _Overlap, meet: Tensor) -> Tensor:
    """Return 1 - iou: the areas that are not common over all."""
    own = x.own * y.size + x.common * y.own
    target_own = x.target_own * y.target_size + x.common * y.target_own
    apart = own + target_own
    return torch.where(meet, _ratio(apart, apart + x.common * y.common, 1.0), 1.0)


def _gap(x: _Overlap, y: _Overlap, meet: Tensor) -> Tensor:
    """Return the share of the smallest box around both that is in neither: its corners, where they meet."""
    around = x.span * y.span
    corners = x.own * y.target_own + x.target_own * y.own
    rest = _above_0(around - (x.size * y.size + x.target_size * y.target_size))
    return _ratio(torch.where(meet, corners, rest), around, 0.0)


def _offset(x: _Interval, y: _Interval, over_x: _Overlap, over_y: _Overlap) -> Tensor:
    """Return the distance of the centres over the diagonal of the smallest box around both, squared."""
    scale = torch.where(over_x.scale < over_y.scale, over_x.scale, over_y.scale)
    dx, dy = 0.5 * x.shift * scale, 0.5 * y.shift * scale
    width, height = over_x.unscaled * scale, over_y.unscaled * scale
    return _ratio(dx * dx + dy * dy, width * width + height * height, 0.0)


def _angle(x: _Interval, y: _Interval) -> Tensor:
    """Return the angle between the boxes' diagonals; a box without any size has that of one without width.

    Its tangent follows from those of the two, w' / h' and w / h. Of boxes that are alike it is computed from
    how much one is wider and higher, which keeps the digits of a small angle.
    """
    alike = (x.growth.abs() <= 0.5 * x.size) & (y.growth.abs() <= 0.5 * y.size)
    scale = _scale_of(torch.where(x.size > y.size, x.size, y.size))
    target = _scale_of(torch.where(x.target_size > y.target_size, x.target_size, y.target_size))
    width, height = x.size * scale, y.size * scale
    target = torch.where(alike, scale, target)
    target_width, target_height = x.target_size * target, y.target_size * target
    grown = x.growth * scale * height - width * (y.growth * scale)
    over = torch.where(alike, grown, target_width * height - width * target_height).abs()
    under = target_height * height + target_width * width
    point = (width == 0.0) & (height == 0.0)
    target_point = (target_width == 0.0) & (target_height == 0.0)
    over = torch.where(point, target_width, torch.where(target_point, width, over))
    under = torch.where(point, target_height, torch.where(target_point, height, under))
    return arctangent(over, under)


def _shape_cost(angle: Tensor, distance: Tensor) -> Tensor:
    """Return what complete IoU takes for the difference of the shapes; ``distance`` is 1 - iou."""
    v = angle * angle * _4_OVER_PI_SQUARED
    return torch.where(v > 0.0, v * (v / (distance + v)), 0.0)

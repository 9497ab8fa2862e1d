"""Losses of boxes against exact fractions and mpmath, by every kernel."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mpmath import atan, mp, pi  # type: ignore[import-untyped] # it has none

from core.scoring import KERNELS, elements, figures, figures_by, work
from lossd.core.losses.arctangent import arctangent
from lossd.types import ErrorCode, RequestError
from reference import is_within, mpf

VARIANTS = ("iou", "giou", "diou", "ciou")
FORMATS = ("xyxy", "cxcywh")
ULPS = 8.0
"""The bound of the error that docs/explanations/numerics.md promises, in units of the last place."""

Box = tuple[float, float, float, float]
Floats = npt.NDArray[np.float64]


class Extent:
    """A box by its corners and sizes, as exact fractions."""

    def __init__(self, box: Box, form: str) -> None:
        a, b, c, d = map(Fraction, box)
        if form == "cxcywh":
            a, b, c, d = a - c / 2, b - d / 2, a + c / 2, b + d / 2
        self.x1, self.y1, self.x2, self.y2 = a, b, c, d
        self.w, self.h = c - a, d - b


def angle(box: Extent) -> mpf:
    """The angle whose tangent is width over height; that of a box without any size is 0."""
    if box.h == 0:
        return pi / 2 if box.w > 0 else mpf(0)
    return atan(real(box.w / box.h))


def real(value: Fraction) -> mpf:
    return mpf(value.numerator) / mpf(value.denominator)


def true_loss(variant: str, box: Box, target: Box, form: str = "xyxy") -> mpf:
    """The loss of a box, straight from the papers' formulas."""
    a, b = Extent(box, form), Extent(target, form)
    common = max(Fraction(0), min(a.x2, b.x2) - max(a.x1, b.x1)) * max(
        Fraction(0), min(a.y2, b.y2) - max(a.y1, b.y1)
    )
    union = a.w * a.h + b.w * b.h - common
    distance = 1 - (common / union if union else Fraction(0))
    width, height = max(a.x2, b.x2) - min(a.x1, b.x1), max(a.y2, b.y2) - min(a.y1, b.y1)
    if variant == "iou":
        return real(distance)
    if variant == "giou":
        around = width * height
        return real(distance + ((around - union) / around if around else 0))
    apart = (a.x1 + a.x2 - b.x1 - b.x2) ** 2 + (a.y1 + a.y2 - b.y1 - b.y2) ** 2
    diagonal = width**2 + height**2
    loss = real(distance + (apart / (4 * diagonal) if diagonal else 0))
    if variant == "diou":
        return loss
    with mp.workdps(400):  # the angles of far larger boxes than their distance differ in the 300th digit
        v = 4 / pi**2 * (angle(b) - angle(a)) ** 2
        return loss if v == 0 else loss + v * v / (real(distance) + v)


def lengths(most: float) -> st.SearchStrategy[float]:
    return st.floats(-most, most, allow_subnormal=False)


COORDINATES = st.one_of(lengths(1e3), st.integers(-4, 4).map(float), lengths(1e-3), lengths(1e150))
SIZES = st.one_of(
    st.floats(1e-3, 1e3), st.integers(0, 4).map(float), st.floats(1e-150, 1e-3), st.floats(1e3, 1e150)
)
SLIGHT = st.one_of(st.just(0.0), st.floats(-1e-16, 1e-16), st.floats(-1e-6, 1e-6), st.floats(-0.3, 0.3))


@st.composite
def pairs(draw: st.DrawFn, form: str) -> tuple[Box, Box]:
    """A box and its target: nearly the same one, or any other, with some equal coordinates."""

    def box(x: float, y: float, w: float, h: float) -> list[float]:
        return [x, y, max(x + w, x), max(y + h, y)] if form == "xyxy" else [x, y, w, h]

    x, y, w, h = (draw(each) for each in (COORDINATES, COORDINATES, SIZES, SIZES))
    first = box(x, y, w, h)
    if draw(st.booleans()):
        moved = [draw(SLIGHT) for _ in range(4)]
        second = box(x + w * moved[0], y + h * moved[1], w * (1 + moved[2]), h * (1 + moved[3]))
    else:
        second = box(draw(COORDINATES), draw(COORDINATES), draw(SIZES), draw(SIZES))
    mixed = [a if draw(st.integers(0, 3)) == 0 else b for a, b in zip(first, second, strict=True)]
    if form == "cxcywh" or (mixed[0] <= mixed[2] and mixed[1] <= mixed[3]):
        second = mixed
    return (first[0], first[1], first[2], first[3]), (second[0], second[1], second[2], second[3])


def keeps_the_promise(got: float, true: mpf) -> bool:
    return is_within(float(got), true, ULPS, factors=[true])


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("form", FORMATS)
@given(data=st.data())
def test_any_boxes(form: str, variant: str, data: st.DataObject) -> None:
    drawn = data.draw(st.lists(pairs(form), min_size=1, max_size=20))
    boxes, targets = (np.array(each) for each in zip(*drawn, strict=True))
    losses = elements("box", boxes=boxes, targets=targets, variant=variant, format=form)
    assert losses.shape == (len(drawn),)
    for (box, target), got in zip(drawn, losses, strict=True):
        if not any(
            0.0 < abs(a - b) < 2.0**-1000 for a, b in zip(box, target, strict=True)
        ):  # see numerics.md
            assert keeps_the_promise(got, true_loss(variant, box, target, form)), (box, target)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("form", FORMATS)
def test_detections(form: str, variant: str) -> None:
    """Boxes as detectors have them, more than a block of them."""
    rng = np.random.default_rng(7)
    centres, sizes = rng.uniform(0, 640, (700, 2)), np.exp(rng.uniform(0, 6, (700, 2)))
    off = 10.0 ** rng.uniform(-16, 0, (700, 4)) * rng.normal(size=(700, 4))
    moved = np.hstack([centres + off[:, :2] * sizes, sizes * np.exp(off[:, 2:])])
    boxes = np.hstack([centres, sizes])
    if form == "xyxy":
        boxes, moved = corners(boxes), corners(moved)
    losses = elements("box", boxes=boxes, targets=moved, variant=variant, format=form)
    for box, target, got in zip(boxes.tolist(), moved.tolist(), losses, strict=True):
        assert keeps_the_promise(got, true_loss(variant, box, target, form)), (box, target)


def corners(boxes: Floats) -> Floats:
    half = boxes[:, 2:] / 2
    return np.hstack([boxes[:, :2] - half, boxes[:, :2] + half])


def one(box: Box, target: Box, variant: str = "iou", form: str = "xyxy") -> float:
    return float(elements("box", boxes=[box], targets=[target], variant=variant, format=form)[0])


@pytest.mark.parametrize(
    ("box", "target", "variant", "true"),
    [
        ((0, 0, 2, 2), (1, 1, 3, 3), "iou", Fraction(6, 7)),
        ((0, 0, 2, 2), (1, 1, 3, 3), "giou", Fraction(6, 7) + Fraction(2, 9)),
        ((0, 0, 2, 2), (1, 1, 3, 3), "diou", Fraction(6, 7) + Fraction(1, 9)),
        ((0, 0, 2, 2), (1, 1, 3, 3), "ciou", Fraction(6, 7) + Fraction(1, 9)),  # the same shape
        ((0, 0, 1, 1), (3, 0, 4, 1), "iou", Fraction(1)),
        ((0, 0, 1, 1), (3, 0, 4, 1), "giou", Fraction(3, 2)),
        ((0, 0, 1, 1), (3, 0, 4, 1), "diou", 1 + Fraction(9, 17)),
        ((0, 1, 3, 2), (1, 0, 2, 3), "iou", Fraction(4, 5)),  # a cross
        ((0, 1, 3, 2), (1, 0, 2, 3), "giou", Fraction(4, 5) + Fraction(4, 9)),
        ((0, 0, 4, 4), (1, 1, 2, 3), "giou", Fraction(7, 8)),  # one in the other: nothing is in neither
    ],
)
def test_boxes_on_paper(box: Box, target: Box, variant: str, true: Fraction) -> None:
    assert keeps_the_promise(one(box, target, variant), real(true))
    assert keeps_the_promise(one(target, box, variant), real(true))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("form", FORMATS)
def test_equal_boxes_cost_nothing(form: str, variant: str) -> None:
    rng = np.random.default_rng(2)
    boxes = np.hstack([rng.normal(size=(300, 2)), 10.0 + rng.random((300, 2))])
    assert not elements("box", boxes=boxes, targets=boxes, variant=variant, format=form).any()


@pytest.mark.parametrize(
    ("box", "target", "losses"),
    [
        # without any area, and the same: iou is 0 of 0, which is 0
        ((1, 1, 1, 1), (1, 1, 1, 1), (1, 1, 1, 1)),
        # points apart: the box around both is empty but for them
        ((0, 0, 0, 0), (2, 2, 2, 2), (1, 2, 2, 2)),
        # on a line, so that the box around both has no area
        ((0, 5, 2, 5), (0, 5, 2, 5), (1, 1, 1, 1)),
        ((0, 0, 0, 0), (4, 0, 4, 0), (1, 1, 2, 2)),
        # a point in a box
        ((2, 2, 2, 2), (0, 0, 4, 4), (1, 1, 1, None)),
        # boxes that touch
        ((0, 0, 1, 1), (1, 0, 2, 1), (1, 1, 1.2, 1.2)),
    ],
)
def test_boxes_without_area(box: Box, target: Box, losses: tuple[float | None, ...]) -> None:
    for variant, loss in zip(VARIANTS, losses, strict=True):
        got = one(box, target, variant)
        assert keeps_the_promise(got, true_loss(variant, box, target)), variant
        if loss is not None:
            assert got == pytest.approx(loss, rel=1e-15)


def test_angles_of_flat_boxes() -> None:
    flat, upright, point, box = (0, 0, 2, 0), (0, 0, 0, 2), (0, 0, 0, 0), (0, 0, 1, 2)
    for first in (flat, upright, point, box):
        for second in (flat, upright, point, box):
            assert keeps_the_promise(one(first, second, "ciou"), true_loss("ciou", first, second))
    # an angle of pi / 2 between them, so that v is 1
    assert one(flat, upright, "ciou") == one(flat, upright, "diou") + 0.5


@pytest.mark.parametrize("variant", VARIANTS)
def test_nearly_equal_boxes_keep_their_digits(variant: str) -> None:
    for grown in (1 + 2.0**-52, 1 + 1e-12, 1 + 1e-9):
        box, target = (0.0, 0.0, 1.0, 1.0), (0.0, 0.0, 1.0, grown)
        got = one(box, target, variant)
        assert keeps_the_promise(got, true_loss(variant, box, target))
        assert 0 < got < 2e-9
    box, target = (1e6, 1e6, 1e6 + 1, 1e6 + 1), (1e6, 1e6, 1e6 + 1, 1e6 + 1 + 2.0**-33)
    assert keeps_the_promise(one(box, target, variant), true_loss(variant, box, target))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("form", FORMATS)
def test_powers_of_two_leave_the_bits(form: str, variant: str) -> None:
    rng = np.random.default_rng(9)
    boxes = np.hstack([rng.random((200, 2)), 1 + rng.random((200, 2))])
    targets = np.hstack([rng.random((200, 2)), 1 + rng.random((200, 2))])
    losses = elements("box", boxes=boxes, targets=targets, variant=variant, format=form)
    for scale in (2.0**-900, 2.0**-40, 8.0, 2.0**1000):
        scaled = elements("box", boxes=boxes * scale, targets=targets * scale, variant=variant, format=form)
        assert scaled.tobytes() == losses.tobytes()


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_largest_and_the_smallest_boxes(variant: str) -> None:
    most = 1.7976931348623157e308
    for box, target in (
        ((-most, -most, most, most), (0.0, 0.0, most, most)),
        ((-most, -most, 0.0, most), (0.0, -most, most, most)),
        ((0.0, 0.0, 1e-300, 1e-300), (0.0, 0.0, 2e-300, 1e-300)),
        ((0.0, 0.0, 1e300, 1e-300), (0.0, 0.0, 2e300, 3e-300)),
        ((0.0, 0.0, 1e-200, 1e-200), (1e200, 1e200, 2e200, 3e200)),
    ):
        assert keeps_the_promise(one(box, target, variant), true_loss(variant, box, target)), (box, target)
    assert keeps_the_promise(
        one((most, most, most, most), (-most, 0.0, most, 1.0), variant, "cxcywh"),
        true_loss(variant, (most, most, most, most), (-most, 0.0, most, 1.0), "cxcywh"),
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_order_leaves_the_bits(variant: str) -> None:
    rng = np.random.default_rng(4)
    boxes = np.hstack([rng.random((600, 2)), 1 + rng.random((600, 2))])
    targets = boxes + rng.random((600, 1)) * 0.1
    losses = elements("box", boxes=boxes, targets=targets, variant=variant)
    order = rng.permutation(600)
    shuffled = elements("box", boxes=boxes[order], targets=targets[order], variant=variant)
    assert shuffled.tobytes() == losses[order].tobytes()


def test_boxes_lie_along_the_last_axis() -> None:
    rng = np.random.default_rng(5)
    boxes = np.concatenate([rng.random((3, 5, 2)), 2 + rng.random((3, 5, 2))], axis=2)
    targets = np.concatenate([rng.random((3, 5, 2)), 2 + rng.random((3, 5, 2))], axis=2)
    losses = elements("box", boxes=boxes, targets=targets)
    assert losses.shape == (3, 5)
    flat = elements("box", boxes=boxes.reshape(-1, 4), targets=targets.reshape(-1, 4))
    assert losses.tobytes() == flat.tobytes()


def test_each_box_counts_once() -> None:
    box = np.array([[0.0, 0.0, 1.0, 1.0]] * 7)
    found = figures(work("box", {"boxes": box, "targets": box}))
    assert found.count == 7
    assert found.positives.value == 7.0


def refusals(box: Box, target: Box, form: str = "xyxy") -> list[tuple[ErrorCode, str]]:
    """The code and place that each kernel gives for three boxes, of which the second is wrong."""
    good = (0.0, 0.0, 1.0, 1.0)
    job = work(
        "box", {"boxes": np.array([good, box, good]), "targets": np.array([good, target, good])}, format=form
    )
    found = []
    for kernel in KERNELS:
        with pytest.raises(RequestError) as refused:
            figures_by(kernel, job)
        found.append((refused.value.code, refused.value.errors[0][0]))
    assert found == found[:1] * len(KERNELS)
    return found


@pytest.mark.parametrize(
    ("box", "form", "place"),
    [
        ((0.0, 0.0, -1.0, 1.0), "xyxy", 2),
        ((0.0, 3.0, 1.0, 2.0), "xyxy", 3),
        ((5.0, 5.0, -1.0, 1.0), "cxcywh", 2),
        ((5.0, 5.0, 1.0, -1e-300), "cxcywh", 3),
    ],
)
def test_an_inverted_box_is_refused(box: Box, form: str, place: int) -> None:
    good = (0.0, 0.0, 1.0, 1.0)
    for name, given_boxes in (("boxes", (box, good)), ("targets", (good, box))):
        for code, pointer in refusals(*given_boxes, form):
            assert code == ErrorCode.INVERTED_BOX
            assert pointer == f"/{name}/1/{place}"


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_what_is_not_finite_is_refused(value: float) -> None:
    good = (0.0, 0.0, 1.0, 1.0)
    for place in range(4):
        box = (*good[:place], value, *good[place + 1 :])
        for name, given_boxes in (("boxes", (box, good)), ("targets", (good, box))):
            for _, pointer in refusals(*given_boxes):
                assert pointer == f"/{name}/1/{place}"


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("form", FORMATS)
def test_nan_makes_its_box_nan_and_no_other(form: str, variant: str) -> None:
    boxes = np.array([[0.0, 0.0, 1.0, 2.0]] * 12)
    targets = boxes + 0.25
    for place in range(4):
        boxes[place, place] = targets[place + 6, place] = math.nan
    losses = elements("box", boxes=boxes, targets=targets, variant=variant, format=form, allow_nan=True)
    assert np.isnan(losses).tolist() == ([True] * 4 + [False] * 2) * 2


def torchvision_loss(
    variant: str, box: torch.Tensor, target: torch.Tensor, eps: float = 1e-7
) -> torch.Tensor:
    """What torchvision.ops has as {generalized, distance, complete}_box_iou_loss: eps is in the divisors."""
    a, b = box.unbind(1), target.unbind(1)
    width, height = (torch.minimum(a[i + 2], b[i + 2]) - torch.maximum(a[i], b[i]) for i in (0, 1))
    common = torch.where((width > 0) & (height > 0), width * height, 0.0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common
    iou = common / (union + eps)
    span = [torch.maximum(a[i + 2], b[i + 2]) - torch.minimum(a[i], b[i]) for i in (0, 1)]
    if variant == "giou":
        around = span[0] * span[1]
        return 1 - (iou - (around - union) / (around + eps))
    apart = ((a[0] + a[2] - b[0] - b[2]) / 2) ** 2 + ((a[1] + a[3] - b[1] - b[3]) / 2) ** 2
    loss = 1 - iou + apart / (span[0] ** 2 + span[1] ** 2 + eps)
    if variant == "diou":
        return loss
    turned = torch.atan((b[2] - b[0]) / (b[3] - b[1])) - torch.atan((a[2] - a[0]) / (a[3] - a[1]))
    v = 4 / math.pi**2 * turned**2
    return loss + v / (1 - iou + v + eps) * v


@pytest.mark.parametrize("variant", ["giou", "diou", "ciou"])
def test_against_torchvision(variant: str) -> None:
    rng = np.random.default_rng(8)
    boxes = np.hstack([rng.random((400, 2)) * 20, 20 + rng.random((400, 2)) * 20])
    targets = np.hstack([rng.random((400, 2)) * 20, 20 + rng.random((400, 2)) * 20])
    theirs = torchvision_loss(variant, torch.from_numpy(boxes), torch.from_numpy(targets))
    ours = elements("box", boxes=boxes, targets=targets, variant=variant)
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=0, atol=1e-6)  # its eps, over areas of 1 and more


@pytest.mark.parametrize("variant", ["giou", "diou", "ciou"])
def test_small_boxes_are_those_that_torchvision_s_eps_hides(variant: str) -> None:
    """In units of the image a box of a few thousandths: eps is as large as its area."""
    box, target = (0.5, 0.5, 0.5003, 0.5003), (0.5, 0.5, 0.5003, 0.5003)
    theirs = torchvision_loss(
        variant, torch.tensor([box], dtype=torch.float64), torch.tensor([target]).double()
    )
    assert float(theirs[0]) > 0.5
    assert one(box, target, variant) == 0.0


@given(st.floats(0, 1e300), st.floats(0, 1e300))
@example(1.0, math.sqrt(2.0) - 1.0)
@example(math.sqrt(2.0) - 1.0, 1.0)
@example(5e-324, 1.0)
@example(1.0, 0.0)
@settings(max_examples=300)
def test_the_arctangent(over: float, under: float) -> None:
    def found(*numbers: float) -> Any:  # noqa: ANN401 -- a number
        return arctangent(*(torch.tensor([number], dtype=torch.float64) for number in numbers)).item()

    if over == 0.0:
        assert found(over, under) == 0.0
        return
    true = atan(mpf(over) / mpf(under)) if under else pi / 2
    assert is_within(found(over, under), true, 3.0, factors=[true])

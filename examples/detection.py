"""The losses of a detector, image by image: boxes, objectness and classes, in three requests.

    python -m examples.detection http://localhost:8000

Objects of some images, and what a model like YOLOv5 would say of them, are drawn at random. Targets are
assigned here, as such a model's training does; the server then scores the matched boxes, the objectness of
all cells and the classes, each as a report by image, and the worst images by each are printed. It ends with
an error if the server and plain numpy disagree.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from lossd_client import LossClient, LossdError, Report

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

SIDE = 320
"""Of the images, in pixels."""
STRIDES = (8, 16, 32)
ANCHORS: Floats = np.array(
    [
        [(10, 13), (16, 30), (33, 23)],
        [(30, 61), (62, 45), (59, 119)],
        [(116, 90), (156, 198), (373, 326)],
    ],
    dtype=np.float64,
)
"""Widths and heights, three for each stride: YOLOv5's."""
MOST_RATIO = 4.0
"""An anchor whose width or height is further from an object's than this is not matched."""
BALANCE = (4.0, 1.0, 0.4)
"""How much the mean objectness loss of each stride's cells counts."""
CLASSES = 5
GAMMA, ALPHA = 1.5, 0.25
TOLERANCE = 1e-9


class Objects(NamedTuple):
    """The objects of all images, one after the other.

    Attributes:
        image: The image of each.
        label: Its class.
        box: Its centre, width and height in pixels, [objects, 4].
    """

    image: Integers
    label: Integers
    box: Floats


@dataclass(frozen=True)
class Matches:
    """Pairs of an object and an anchor in a cell, which is to predict it.

    Attributes:
        object: The number of the object.
        cell: The place among the cells of an image; see `cells`.
    """

    object: Integers
    cell: Integers

    @classmethod
    def joined(cls, parts: list[Self]) -> Self:
        """Return the matches of all parts."""
        return cls(*(np.concatenate([getattr(part, each.name) for part in parts]) for each in fields(cls)))


class Cells(NamedTuple):
    """What predicts: an anchor in each cell of each stride's grid, ordered by stride, anchor, row and column.

    Attributes:
        stride: The stride of each.
        corner: Its cell's column and row, [cells, 2].
        anchor: The width and height of its anchor, [cells, 2].
        weight: What its objectness loss counts.
    """

    stride: Floats
    corner: Floats
    anchor: Floats
    weight: Floats


def cells() -> Cells:
    """Return the cells of an image."""
    parts = []
    for stride, anchors, balance in zip(STRIDES, ANCHORS, BALANCE, strict=True):
        n = SIDE // stride
        which, row, column = (each.reshape(-1) for each in np.indices((len(anchors), n, n)))
        weight = np.full(row.size, balance / row.size)
        parts.append((np.full(row.size, float(stride)), np.stack([column, row], 1), anchors[which], weight))
    return Cells(*(np.concatenate(each).astype(np.float64) for each in zip(*parts, strict=True)))


def matched(objects: Objects) -> Matches:
    """Return which anchors in which cells are to predict which objects.

    An anchor fits an object if neither their widths nor their heights differ by a factor of 4. It predicts
    it in the cell that its centre is in, and in the two neighbours that the centre is nearest to.
    """
    parts, begin = [], 0
    for stride, anchors in zip(STRIDES, ANCHORS, strict=True):
        n = SIDE // stride
        for number, anchor in enumerate(anchors):
            ratio = objects.box[:, 2:] / anchor
            fits = np.flatnonzero(np.maximum(ratio, 1 / ratio).max(axis=1) < MOST_RATIO)
            centre = objects.box[fits, :2] / stride
            own = np.floor(centre).astype(np.int64)
            for column, row, within in _near(centre, own, n):
                place = begin + (number * n + row) * n + column
                parts.append(Matches(fits[within], place[within]))
        begin += len(anchors) * n * n
    return Matches.joined(parts)


def _near(centre: Floats, own: Integers, n: int) -> Iterator[tuple[Integers, Integers, NDArray[np.bool_]]]:
    """Yield columns and rows of a centre's cell and of its two nearest neighbours, and which exist."""
    yield own[:, 0], own[:, 1], np.ones(len(own), dtype=np.bool_)
    towards = np.where(centre - own < 0.5, -1, 1)
    for axis in (0, 1):
        cell = own.copy()
        cell[:, axis] += towards[:, axis]
        yield cell[:, 0], cell[:, 1], (cell[:, axis] >= 0) & (cell[:, axis] < n)


class Drawn(NamedTuple):
    """Objects, and a model's raw outputs for their images: [images, cells, 5 + classes]."""

    objects: Objects
    outputs: NDArray[np.float32]


def drawn(images: int, seed: int = 0) -> Drawn:
    """Draw objects and outputs; the model is worse at some images than at others."""
    rng = np.random.default_rng(seed)
    image = np.repeat(np.arange(images), rng.integers(1, 7, images))
    size = np.exp(rng.uniform(math.log(12), math.log(160), (image.size, 2)))
    centre = size / 2 + rng.random((image.size, 2)) * (SIDE - size)
    objects = Objects(image, rng.integers(0, CLASSES, image.size), np.concatenate([centre, size], axis=1))

    grid, matches = cells(), matched(objects)
    outputs = rng.normal(-1.0, 0.7, (images, len(grid.stride), 5 + CLASSES))
    outputs[..., 4] -= 4.0  # mostly nothing is there
    skill = rng.uniform(0.2, 1.0, images)[objects.image[matches.object]]
    at = objects.image[matches.object], matches.cell
    outputs[at] += skill[:, None] * (_ideal(objects, matches, grid) - outputs[at])
    return Drawn(objects, outputs.astype(np.float32))


def _ideal(objects: Objects, matches: Matches, grid: Cells) -> Floats:
    """Return raw outputs that predict the matched objects well."""
    box, cell = objects.box[matches.object], matches.cell
    offset = box[:, :2] / grid.stride[cell, None] - grid.corner[cell]
    size = np.sqrt(box[:, 2:] / grid.anchor[cell])
    p = np.clip(np.concatenate([(offset + 0.5) / 2, size / 2], axis=1), 0.01, 0.99)
    right = np.where(np.arange(CLASSES) == objects.label[matches.object, None], 4.0, -4.0)
    return np.concatenate([np.log(p / (1 - p)), np.full((len(cell), 1), 4.0), right], axis=1)


@dataclass(frozen=True)
class Assigned:
    """What is scored: predictions beside their targets.

    Attributes:
        image: The image of each match.
        boxes: The predicted boxes of the matches: centre, width and height, [matches, 4].
        box_targets: Those of their objects.
        objectness: Logits of all cells, [images, cells].
        overlaps: Their targets: the overlap of the predicted box and its object; 0 where none is matched.
        classes: Logits of the matches' classes, [matches, classes].
        labels: Their classes.
        weight: What the objectness loss of each cell counts, [cells].
    """

    image: Integers
    boxes: Floats
    box_targets: Floats
    objectness: NDArray[np.float32]
    overlaps: Floats
    classes: NDArray[np.float32]
    labels: Integers
    weight: Floats


def assigned(given: Drawn) -> Assigned:
    """Assign targets to a model's outputs."""
    objects, matches, grid = given.objects, matched(given.objects), cells()
    image, cell = objects.image[matches.object], matches.cell
    raw = given.outputs[image, cell]
    p = 1 / (1 + np.exp(-raw[:, :4].astype(np.float64)))
    centre = (2 * p[:, :2] - 0.5 + grid.corner[cell]) * grid.stride[cell, None]
    boxes = np.concatenate([centre, (2 * p[:, 2:]) ** 2 * grid.anchor[cell]], axis=1)
    targets = objects.box[matches.object]
    overlaps = np.zeros(given.outputs.shape[:2])
    np.maximum.at(overlaps, (image, cell), overlap(boxes, targets))  # two objects may share a cell
    return Assigned(
        image,
        boxes,
        targets,
        given.outputs[..., 4],
        overlaps,
        raw[:, 5:],
        objects.label[matches.object],
        grid.weight,
    )


def reports(client: LossClient, given: Assigned) -> dict[str, Report]:
    """Return the reports of boxes, objectness and classes, whose groups are the images."""
    images = np.arange(len(given.objectness))
    return {
        "boxes": client.report(
            "box",
            boxes=given.boxes,
            targets=given.box_targets,
            variant="ciou",
            format="cxcywh",
            sections=["groups"],
            groups={"image": given.image},
        ),
        "objectness": client.report(
            "bce",
            given.objectness,
            given.overlaps,
            weight=given.weight,
            sections=["groups"],
            groups={"image": images},
        ),
        "classes": client.report(
            "focal",
            given.classes,
            given.labels,
            targets_format="index",
            gamma=GAMMA,
            alpha=ALPHA,
            sections=["groups"],
            groups={"image": given.image},
        ),
    }


def by_image(name: str, report: Report) -> dict[int, float]:
    """Return each image's loss: a mean over its matches, or the weighted sum over its cells."""
    return {
        image: each.sum if name == "objectness" else each.mean
        for image, each in report.groups.items()
        if isinstance(image, int)
    }


def overlap(boxes: Floats, targets: Floats) -> Floats:
    """Return the overlap over the union of boxes given by centre, width and height."""
    low = np.maximum(boxes[:, :2] - boxes[:, 2:] / 2, targets[:, :2] - targets[:, 2:] / 2)
    high = np.minimum(boxes[:, :2] + boxes[:, 2:] / 2, targets[:, :2] + targets[:, 2:] / 2)
    common = np.maximum(high - low, 0).prod(axis=1)
    found: Floats = common / (boxes[:, 2:].prod(axis=1) + targets[:, 2:].prod(axis=1) - common)
    return found


def ciou_loss(boxes: Floats, targets: Floats) -> Floats:
    """Return 1 - CIoU in numpy."""
    iou = overlap(boxes, targets)
    low = np.minimum(boxes[:, :2] - boxes[:, 2:] / 2, targets[:, :2] - targets[:, 2:] / 2)
    high = np.maximum(boxes[:, :2] + boxes[:, 2:] / 2, targets[:, :2] + targets[:, 2:] / 2)
    apart = ((boxes[:, :2] - targets[:, :2]) ** 2).sum(axis=1) / ((high - low) ** 2).sum(axis=1)
    angles = [np.arctan2(each[:, 2], each[:, 3]) for each in (boxes, targets)]
    v = 4 / math.pi**2 * (angles[0] - angles[1]) ** 2
    losses: Floats = 1 - iou + apart + v**2 / (1 - iou + v)
    return losses


def in_numpy(given: Assigned) -> dict[str, dict[int, float]]:
    """Return each image's losses as plain numpy computes them."""
    x, y = given.objectness.astype(np.float64), given.overlaps
    cross_entropy = np.maximum(x, 0) - x * y + np.log1p(np.exp(-np.abs(x)))
    is_label = np.arange(CLASSES) == given.labels[:, None]
    towards = np.where(is_label, 1.0, -1.0) * given.classes
    share = np.where(is_label, ALPHA, 1 - ALPHA)
    focal = share * (1 + np.exp(towards)) ** -GAMMA * np.log1p(np.exp(-towards))
    each = {"boxes": ciou_loss(given.boxes, given.box_targets), "classes": focal.mean(axis=1)}
    means = {
        name: {int(image): losses[given.image == image].mean() for image in np.unique(given.image)}
        for name, losses in each.items()
    }
    return {**means, "objectness": dict(enumerate(((cross_entropy * given.weight).sum(axis=1)).tolist()))}


def difference(found: dict[int, float], expected: dict[int, float]) -> float:
    """Return the greatest relative difference of two images' losses; infinite if the images differ."""
    if found.keys() != expected.keys():
        return math.inf
    return max(abs(found[image] / expected[image] - 1) for image in expected)


def main() -> None:
    """Print the worst images by each loss."""
    given = assigned(drawn(48))
    try:
        with LossClient(sys.argv[1] if len(sys.argv) > 1 else None) as client:
            made = reports(client, given)
    except LossdError as error:
        sys.exit(f"error: {error}")
    expected = in_numpy(given)
    for name, report in made.items():
        losses = by_image(name, report)
        if not difference(losses, expected[name]) <= TOLERANCE:
            sys.exit(f"error: {name}: the server and numpy differ by more than {TOLERANCE:g}")
        worst = sorted(losses, key=losses.__getitem__, reverse=True)[:5]
        shown = ", ".join(f"{image} ({losses[image]:.3f})" for image in worst)
        print(f"{name}: the worst images are {shown}")


if __name__ == "__main__":
    main()

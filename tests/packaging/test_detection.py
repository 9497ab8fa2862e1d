"""The example of a detector: its targets are those of the published rules, and its losses the server's."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np

from examples import detection
from examples.detection import SIDE, STRIDES, Objects, assigned, drawn, matched
from lossd_client import LossClient
from lossd_client.testing import FakeTransport

ROOT = Path(__file__).resolve().parents[2]


def test_an_object_is_matched_in_its_cell_and_the_two_nearest_by_anchors_of_its_size() -> None:
    box = np.array([[100.0, 61.0, 40.0, 40.0]])
    found = matched(Objects(np.array([0]), np.array([0]), box))
    n = SIDE // 8
    # At stride 8 the centre is at 12.5, 7.625: in column 12 and row 7, nearest to column 13 and row 8. Of the
    # anchors 10x13, 16x30 and 33x23 the first is 4 times too narrow.
    at_8 = {anchor * n * n + cell for anchor in (1, 2) for cell in (7 * n + 12, 7 * n + 13, 8 * n + 12)}
    assert set(found.cell[found.cell < 3 * n * n].tolist()) == at_8
    # All three anchors of stride 16 fit, and of stride 32 the first alone.
    cells = [3 * (SIDE // stride) ** 2 for stride in STRIDES]
    begins = np.cumsum([0, *cells])
    assert np.histogram(found.cell, begins)[0].tolist() == [6, 9, 3]


def test_a_neighbour_outside_of_the_image_is_left_out() -> None:
    box = np.array([[3.0, 2.0, 6.0, 4.0]])
    found = matched(Objects(np.array([0]), np.array([0]), box))
    assert found.cell.tolist() == [0]  # of 10x13 at stride 8, in the corner


def test_objectness_targets_are_the_overlaps_of_matched_boxes() -> None:
    given = drawn(3)
    found = assigned(given)
    matches = matched(given.objects)
    assert np.count_nonzero(found.overlaps) <= len(set(zip(found.image, matches.cell, strict=True)))
    for box, target, image, cell in zip(
        found.boxes, found.box_targets, found.image, matches.cell, strict=True
    ):
        (x, y, w, h), (u, v, s, t) = box, target
        wide = min(x + w / 2, u + s / 2) - max(x - w / 2, u - s / 2)
        high = min(y + h / 2, v + t / 2) - max(y - h / 2, v - t / 2)
        common = max(wide, 0) * max(high, 0)
        assert found.overlaps[image, cell] >= common / (w * h + s * t - common) * (1 - 1e-12)


def test_the_fake_says_what_numpy_says() -> None:
    given = assigned(drawn(8))
    with LossClient(transport=FakeTransport) as client:
        found = detection.reports(client, given)
    expected = detection.in_numpy(given)
    for name, report in found.items():
        assert detection.difference(detection.by_image(name, report), expected[name]) <= 1e-9
    assert detection.difference({0: 1.0}, {1: 1.0}) == math.inf
    assert detection.difference({0: 1.0}, {0: 1.1}) > 0.09


def test_it_prints_the_worst_images_by_each_loss(base_url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "examples.detection", base_url], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["boxes", "objectness", "classes"]
    assert all(line.count("(") == 5 for line in lines)

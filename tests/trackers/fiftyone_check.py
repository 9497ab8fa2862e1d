"""Makes a dataset of FiftyOne and a report with its ids, runs the example, and writes what has come of it.

It runs in FiftyOne's environment: `python fiftyone_check.py SERVER EXAMPLE FOLDER`.
"""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import fiftyone as fo
import numpy as np

from lossd_client import LossClient

server, example, folder = sys.argv[1:]
path = f"{folder}/report.json"
dataset = fo.Dataset("digits")
dataset.add_samples([fo.Sample(filepath=f"/digits/{number}.png") for number in range(40)], progress=False)
ids = dataset.values("id")
logits = np.random.default_rng(0).normal(size=(40, 3))
with LossClient(server) as client:
    report = client.report("bce", logits, np.zeros((40, 3)), ids=ids, top=5)
report.save(path)

sys.argv = [example, path, "digits"]
runpy.run_path(example, run_name="__main__")
view = dataset.load_saved_view("worst")
found = {
    "asked": [[row.id, row.loss] for row in report.top_rows],
    "view": [list(each) for each in zip(view.values("id"), view.values("loss"), strict=True)],
    "tags": dataset.count_sample_tags(),
    "tagged": dataset.match_tags("worst").values("id"),
    "without": dataset.count() - dataset.count("loss"),
}
Path(folder, "found.json").write_text(json.dumps(found))
dataset.delete()

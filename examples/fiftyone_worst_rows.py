"""Tag the rows with the greatest losses in a FiftyOne dataset, and keep them as a view, the worst first.

    python examples/fiftyone_worst_rows.py report.json DATASET

The report was made with the samples' own ids: `client.report(..., ids=dataset.values("id"), top=100)`.
"""

import sys

import fiftyone as fo

from lossd_client import Report

report = Report.load(sys.argv[1])
dataset = fo.load_dataset(sys.argv[2])

worst = dataset.select([row.id for row in report.top_rows], ordered=True)
worst.set_values("loss", {row.id: row.loss for row in report.top_rows}, key_field="id")
worst.tag_samples("worst")
dataset.save_view("worst", worst, overwrite=True)
print(f"{len(worst)} of {len(dataset)} samples have the tag worst")  # then: fo.launch_app(view=worst)

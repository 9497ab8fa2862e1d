"""Find wrong labels by the worst rows of a report and by cleanlab, and where both agree.

    python examples/cleanlab_labels.py http://127.0.0.1:8000

The data are scikit-learn's digits, of which 2 % get a wrong label. cleanlab compares the labels with the
probabilities of a model; a report needs logits or probabilities, and finds what is odd for any targets.
"""

import sys

import numpy as np
from cleanlab.filter import find_label_issues
from scipy.special import softmax  # type: ignore[import-untyped]
from sklearn.datasets import load_digits  # type: ignore[import-untyped]
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis  # type: ignore[import-untyped]
from sklearn.model_selection import cross_val_predict  # type: ignore[import-untyped]

from lossd_client import LossClient

rng = np.random.default_rng(0)
images, truth = load_digits(return_X_y=True)
labels = truth.copy()
wrong = rng.choice(len(labels), size=len(labels) // 50, replace=False)
labels[wrong] = (labels[wrong] + rng.integers(1, 10, size=len(wrong))) % 10

# Each digit is scored by a model that has not seen it.
logits = cross_val_predict(LinearDiscriminantAnalysis(), images, labels, method="decision_function")
with LossClient(sys.argv[1]) as client:
    report = client.report("bce", logits, labels, targets_format="index", top=len(labels) // 20)

issues = find_label_issues(labels, softmax(logits, axis=1), return_indices_ranked_by="self_confidence")
worst = [row.index for row in report.top_rows]
both = [row for row in worst if row in set(issues)]
for name, rows in (("the worst 5 %", worst), ("cleanlab", issues), ("both", both)):
    print(f"{name}: {len(set(wrong) & set(rows))} of {len(wrong)} wrong labels among {len(rows)} rows")

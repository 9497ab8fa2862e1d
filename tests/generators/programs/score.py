"""Score by what openapi-python-client makes of the document."""

from __future__ import annotations

import json
import sys
from io import BytesIO
from pathlib import Path

from lossd_openapi import AuthenticatedClient
from lossd_openapi.api.losses import bce, focal
from lossd_openapi.models import BceRequest, FocalFilesBody, FocalRequest, LossAnswer, Problem
from lossd_openapi.types import UNSET, File

_, url, key, folder = sys.argv
client = AuthenticatedClient(base_url=url, token=key, raise_on_unexpected_status=True)
logits = [[2.0, -1.5, 0.25], [-3.0, 4.0, 0.0]]
targets = [[1, 0, 0], [0, 1, 1]]


def answered(answer: LossAnswer | Problem | None) -> LossAnswer:
    assert isinstance(answer, LossAnswer), answer
    return answer


def read(name: str) -> File:
    return File(payload=BytesIO((Path(folder) / name).read_bytes()), file_name=name)


mean = answered(bce.sync(client=client, body=BceRequest(targets, logits=logits), x_request_id="from-python"))
request = FocalRequest(targets, logits=logits, gamma=2.0, alpha=None, axis=1)
rows = answered(focal.sync(client=client, body=request))
infinite = answered(bce.sync(client=client, body=BceRequest([0], logits=["Infinity"])))
request = FocalRequest(targets, logits=logits, groups=[3, 7], report=["all"], top=1)
report = answered(focal.sync(client=client, body=request)).report
refused = bce.sync(client=client, body=BceRequest([[1, 1.5, 0], [0, 1, 1]], logits=logits))
assert isinstance(refused, Problem)
form = FocalFilesBody(targets=read("y.npy"), logits=read("x.npy"), params='{"gamma": 2}')
files = answered(focal.sync(client=client, body=form, report="totals"))
archive = answered(focal.sync(client=client, body=read("pair.npz"), gamma=2.0, report="totals"))
assert (archive.loss, archive.report) == (
    files.loss,
    files.report,
) or archive.report.totals == files.report.totals

assert report is not UNSET
print(
    json.dumps(
        {
            "mean": mean.loss,
            "sum_terms": mean.sum_terms,
            "request_id": mean.request_id,
            "rows": rows.loss,
            "infinite": infinite.sum_.value,
            "report_sum": report.totals.sum_,
            "report_rows": report.totals.rows,
            "worst": report.top.rows[0].index,
            "worst_loss": report.top.rows[0].loss,
            "groups": report.groups.ids,
            "bins": report.calibration.bins,
            "code": refused.code,
            "status": refused.status,
            "retryable": refused.retryable,
            "pointer": refused.errors[0].pointer,
            "files": files.loss,
            "files_count": files.report.totals.count,
        }
    )
)

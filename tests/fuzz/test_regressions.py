"""Bodies that fuzzing once found a defect with."""

from __future__ import annotations

import httpx
import pytest

from lossd.types import RequestError
from wire.feeding import form, npy, read

ONES = ",".join(["1"] * 150_000)


@pytest.mark.parametrize("depth", [100, 960, 982, 2000])
def test_deep_parameters_of_large_documents(base_url: str, depth: int) -> None:
    body = f'{{"logits":[{ONES}],"targets":[{ONES}],"gamma":{"[" * depth}{"]" * depth}}}'
    headers = {"content-type": "application/json"}
    answer = httpx.post(f"{base_url}/focal", content=body, headers=headers, timeout=30)
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_json")


@pytest.mark.parametrize("disposition", ['name="logits"; name="targets"', 'name="logits"; x="a\nb"'])
def test_part_headers_that_may_be_read_in_two_ways(disposition: str) -> None:
    body = form([("logits", npy([1.0])), ("targets", npy([1.0]))])
    changed = body.replace(b'name="logits"', disposition.encode(), 1)
    with pytest.raises(RequestError) as caught:
        read("multipart/form-data", [changed])
    assert caught.value.code == "malformed_multipart"

"""Answers that are filled in are those that would be written."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lossd.request import LossResult
from lossd.wire import RequestedOutput, Template, write_inference, write_json

LIKE = LossResult(
    loss=0.25,
    reduction="mean",
    sum=1.0,
    count=4,
    weight_sum=4.0,
    positives=0.0,
    shape=(2, 2),
    loss_name="focal",
    params={"gamma": 1.5, "alpha": None, "a %b %% %(c)s": "%b"},
    kernel="eager",
    device="cpu",
)


def write(result: LossResult, request_id: str) -> bytes:
    return write_json(result, request_id=request_id, version="1.0%")


def write_v2(result: LossResult, _: str) -> bytes:
    outputs = [RequestedOutput(name, binary=False) for name in ("count", "loss", "positives_terms", "sum")]
    return b"".join(write_inference(result, model="focal", request_id="7%b", outputs=outputs).text)


@pytest.mark.parametrize("writer", [write, write_v2])
def test_they_are_the_same(writer: Any) -> None:  # noqa: ANN401 -- one of two functions
    template = Template(writer, LIKE)
    rng = np.random.default_rng(2)
    for _ in range(500):
        numbers = rng.normal() * 10.0 ** rng.integers(-320, 300, 4)
        loss, total, weight_sum, positives = map(float, numbers)
        result = replace(
            LIKE,
            loss=loss,
            sum=total,
            weight_sum=weight_sum,
            positives=positives,
            count=int(rng.integers(0, 1 << 53)),
            sum_terms=(total, *map(float, rng.normal(size=rng.integers(0, 3)))),
            positives_terms=(positives,) * int(rng.integers(1, 4)),
        )
        assert template.write(result, b"an-id.1:2/3+4=5_6") == writer(result, "an-id.1:2/3+4=5_6")


@pytest.mark.parametrize("odd", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("name", ["loss", "sum", "weight_sum", "positives"])
def test_what_has_a_name_in_json_is_written_anew(name: str, odd: float) -> None:
    result = replace(LIKE)
    setattr(result, name, odd)
    assert Template(write, LIKE).write(result, b"id") is None

from __future__ import annotations

import pytest

from lossd.engine.ipc.messages import (
    BatchSpec,
    Cancel,
    Failed,
    FromFrontEnd,
    FromWorker,
    Ready,
    Scored,
    Slice,
    decode_batch,
    decode_from_front_end,
    decode_from_worker,
    encode,
)
from lossd.types import ErrorCode, Tensor

BATCH = BatchSpec(
    loss="focal",
    params={"gamma": 1.5, "alpha": None, "reduction": "mean", "axis": None},
    shape=(2, 3),
    axes=(0, 1),
    elements=131072,
    tensors={"logits": Tensor("float32", (2, 3), 4096, fortran=True)},
)
SLICE = Slice(
    id=7,
    job=3,
    batch=encode(BATCH),
    base=640,
    index=2,
    memories=[(64, 3)],
    deadline=12.5,
    row=5,
    team="vision",
    weight=0.25,
    request_id="a",
    trace="b",
)


def test_a_batch_survives_its_journey() -> None:
    assert decode_batch(SLICE.batch) == BATCH


@pytest.mark.parametrize("sent", [SLICE, Cancel(3)])
def test_what_a_worker_is_told_survives_its_journey(sent: FromFrontEnd) -> None:
    assert decode_from_front_end(encode(sent)) == sent


@pytest.mark.parametrize(
    "sent",
    [
        Scored(7, [0.5, 1e-20], None, [float("inf")], 3, [2], 0.001),
        Failed(7, ErrorCode.TARGET_OUT_OF_RANGE, "1.7 is outside [0, 1]", [("/targets/0", "1.7")]),
        Ready("native", "cpu", "2.12", "avx2"),
    ],
)
def test_what_a_worker_says_survives_its_journey(sent: FromWorker) -> None:
    assert decode_from_worker(encode(sent)) == sent

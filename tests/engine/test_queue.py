from __future__ import annotations

from lossd.engine.frames import Slice, decode_slice, encode
from lossd.engine.queue import TurnQueue
from lossd.request import Tensor


def piece(request: int, slice_id: int) -> Slice:
    return Slice(slice_id, request, "bce", {}, (4,), (0,), 8192, {}, 0, 1, [], 1e9)


def test_requests_take_turns() -> None:
    queue = TurnQueue()
    for slice_id in range(1, 5):
        queue.push(piece(1, slice_id))
    queue.push(piece(2, 10))
    assert len(queue) == 5
    assert [queue.pop().id for _ in range(5)] == [1, 10, 2, 3, 4]
    assert len(queue) == 0


def test_a_slice_survives_its_journey() -> None:
    sent = Slice(
        id=7,
        request=3,
        loss="focal",
        params={"gamma": 1.5, "alpha": None, "reduction": "mean", "axis": None},
        shape=(2, 3),
        axes=(0, 1),
        block=32768,
        tensors={"logits": Tensor("float32", (2, 3), 4096, fortran=True)},
        first=0,
        last=1,
        partials=[(64, 3)],
        deadline=12.5,
    )
    assert decode_slice(encode(sent)) == sent

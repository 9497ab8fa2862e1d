from __future__ import annotations

import msgspec
import pytest

from lossd.engine.frames import (
    MAX_FRAME,
    Answers,
    Cancel,
    Failed,
    FromFrontEnd,
    FromWorker,
    Recipe,
    Scored,
    Slice,
    bundle,
    decode_from_front_end,
    decode_from_worker,
    decode_recipe,
    encode,
    encode_recipe,
)
from lossd.request import Tensor

RECIPE = Recipe(
    loss="focal",
    params={"gamma": 1.5, "alpha": None, "reduction": "mean", "axis": None},
    shape=(2, 3),
    axes=(0, 1),
    block=32768,
    tensors={"logits": Tensor("float32", (2, 3), 4096, fortran=True)},
)
SLICE = Slice(
    id=7,
    request=3,
    recipe=encode_recipe(RECIPE),
    base=640,
    first=0,
    last=1,
    partials=[(64, 3)],
    deadline=12.5,
    rows=(5, 2),
    team="vision",
    weight=0.25,
    alone=True,
)


def test_a_recipe_survives_its_journey() -> None:
    assert decode_recipe(SLICE.recipe) == RECIPE


@pytest.mark.parametrize("sent", [SLICE, Cancel(3)])
def test_what_a_worker_is_told_survives_its_journey(sent: FromFrontEnd) -> None:
    assert [decode_from_front_end(message) for message in bundle([encode(sent)])] == [[sent]]


@pytest.mark.parametrize(
    "sent",
    [
        Scored(7, [0.5, 1e-20], None, [float("inf")], 3, [[(0, 2, 3)]], 0.001),
        Failed(7, "target_out_of_range", "1.7 is outside [0, 1]", [("/targets/0", "1.7")]),
        Answers([Scored(7, [0.5], [2.0], [], 3, [], 0.001, 2), Failed(8, "cancelled", "nobody", [])]),
    ],
)
def test_what_a_worker_says_survives_its_journey(sent: FromWorker) -> None:
    assert decode_from_worker(encode(sent)) == sent


@pytest.mark.parametrize("count", [1, 2, 15, 16, 70_000])
def test_frames_for_a_worker_travel_in_few_messages(count: int) -> None:
    sent = [Cancel(i) for i in range(count)]
    messages = list(bundle([encode(frame) for frame in sent]))
    assert [frame for message in messages for frame in decode_from_front_end(message)] == sent
    assert max(map(len, messages)) <= MAX_FRAME
    assert len(messages) == 1 or count == 70_000


def test_a_message_has_no_more_than_a_frame_may_have() -> None:
    long = msgspec.structs.replace(SLICE, identity="x" * (MAX_FRAME - 1000))
    sent: list[FromFrontEnd] = [SLICE, long, long, Cancel(1)]
    messages = list(bundle([encode(frame) for frame in sent]))
    assert [len(decode_from_front_end(message)) for message in messages] == [2, 2]
    assert max(map(len, messages)) <= MAX_FRAME

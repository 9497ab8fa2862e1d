from __future__ import annotations

import pytest

import lossd.wire
from lossd.wire import FORMATS, STREAMS


def test_all_is_complete() -> None:
    assert all(hasattr(lossd.wire, name) for name in lossd.wire.__all__)


def test_each_format_has_a_name_of_its_own() -> None:
    names = [form.name for form in FORMATS.values()] + [form.name for form in STREAMS.values()]
    assert sorted(names) == ["arrow", "json", "multipart", "npy", "npz"]
    assert all(media == media.lower() for media in (*FORMATS, *STREAMS))


@pytest.mark.parametrize("media", FORMATS)
def test_the_arena_holds_the_body_at_least(media: str) -> None:
    for length in (0, 1, 1000, 1 << 40):
        assert FORMATS[media].arena_bytes(length) >= length

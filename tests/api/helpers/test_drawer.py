from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvloop

from lossd.api.helpers.drawer import MEMORY, Drawer, view_bytes
from lossd.api.routes.examples import answer_example, report_example
from lossd.core.catalog import LOSSES
from lossd.engine.admission.arena import Arena
from lossd.engine.ipc.memory import Memory, create_memory
from lossd.types import RequestError
from lossd_client._views import draw_views

pytestmark = pytest.mark.slow

SIZE = 16 << 20


def document() -> bytes:
    answer = answer_example(LOSSES["bce"], report_example(LOSSES["bce"]))
    assert answer is not None
    return json.dumps({"reports": [{"name": "A", "document": answer["report"]}]}).encode()


class Drawing:
    """An arena, and a drawer at work in it."""

    def __init__(self, fd: int, seconds: float) -> None:
        self.arena = Arena(Memory(fd, SIZE), 0, SIZE, "tests")
        self.drawer = Drawer(fd, SIZE, seconds, hang_seconds=10.0, most_bytes=MEMORY * SIZE)

    async def draw(self, text: bytes, room: int) -> str:
        region = await self.arena.reserve(len(text) + room, 10)
        try:
            region.view[: len(text)] = text
            view = await self.drawer.draw(region, len(text), deadline=time.monotonic() + 60)
            return bytes(view).decode()
        finally:
            region.release()


@asynccontextmanager
async def open_drawer(seconds: float = 30.0) -> AsyncIterator[Drawing]:
    """A drawer that must leave nothing behind."""
    fd = create_memory(SIZE)
    setup = Drawing(fd, seconds)
    os.close(fd)
    try:
        yield setup
        assert setup.arena.reserved == 0
    finally:
        await setup.drawer.close()


def test_a_view_needs_room() -> None:
    text = document()

    async def check() -> None:
        async with open_drawer() as setup:
            drawn = await setup.draw(text, view_bytes(len(text)) - len(text))
            assert drawn == draw_views(text)
            for room in (0, 1000, len(drawn.encode()) - 128):
                with pytest.raises(RequestError) as caught:
                    await setup.draw(text, room)
                assert caught.value.code == "output_too_large"
                assert f"the view is {len(drawn.encode())} bytes" in caught.value.detail

    uvloop.run(check())


def test_halves_of_surrogate_pairs_are_no_end_of_the_process() -> None:
    named = json.loads(document())
    named["reports"][0]["name"] = "\ud800"
    named["reports"][0]["document"]["run"]["class_names"] = ["a\ud800", "b", "c"]

    async def check() -> None:
        async with open_drawer() as setup:
            await setup.draw(document(), 1 << 20)
            pid = setup.drawer.pid
            view = await setup.draw(json.dumps(named).encode(), 1 << 20)
            assert view.encode()  # it is text
            schema = json.dumps({"reports": [{"name": "A", "document": {"schema": "\ud800"}}]}).encode()
            for text in (schema, b'{"reports": [{"name": "A", "document": {"\\ud800": "\\ud800"}}]}'):
                with pytest.raises(RequestError) as caught:
                    await setup.draw(text, 1 << 20)
                assert caught.value.code == "invalid_parameter"
            assert setup.drawer.pid == pid

    uvloop.run(check())


def test_a_refusal_quotes_little() -> None:
    text, other = json.loads(document()), json.loads(document())["reports"][0]["document"]
    other["loss"] = "focal"
    text["reports"][0]["name"] = "\0" * 100_000
    text["reports"].append({"name": "b" * 100_000, "document": other})
    schema = {"reports": [{"name": "A", "document": {"schema": "x" * 1_000_000}}]}

    async def check() -> None:
        async with open_drawer() as setup:
            for wrong in (text, schema):
                with pytest.raises(RequestError) as caught:
                    await setup.draw(json.dumps(wrong).encode(), 1 << 20)
                assert caught.value.code == "invalid_parameter"
                assert len(caught.value.detail) <= 1000
                assert all(len(pointer) + len(what) <= 1300 for pointer, what in caught.value.errors)

    uvloop.run(check())


def test_a_view_that_takes_too_long() -> None:
    async def check() -> None:
        async with open_drawer(seconds=0.0) as setup:
            with pytest.raises(RequestError) as caught:
                await setup.draw(json.dumps([[]] * 1_500_000).encode(), 1 << 20)
            assert (caught.value.code, "smaller reports" in caught.value.detail) == ("body_too_large", True)

    uvloop.run(check())


def test_the_front_end_does_not_import_the_client() -> None:
    script = "import sys, lossd.api.app; assert not [name for name in sys.modules if 'lossd_client' in name]"
    subprocess.run([sys.executable, "-c", script], timeout=60, check=True)

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

from lossd.api.helpers.drawer import Drawer, view_bytes
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

    def __init__(self, fd: int) -> None:
        self.arena = Arena(Memory(fd, SIZE), 0, SIZE, "tests")
        self.drawer = Drawer(fd, SIZE, SIZE, seconds=30.0, hang_seconds=10.0)

    async def draw(self, text: bytes, room: int) -> str:
        region = await self.arena.reserve(len(text) + room, 10)
        try:
            region.view[: len(text)] = text
            view = await self.drawer.draw(region, len(text), deadline=time.monotonic() + 60)
            return bytes(view).decode()
        finally:
            region.release()


@asynccontextmanager
async def open_drawer() -> AsyncIterator[Drawing]:
    """A drawer that must leave nothing behind."""
    fd = create_memory(SIZE)
    setup = Drawing(fd)
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


def test_the_front_end_does_not_import_the_client() -> None:
    script = "import sys, lossd.api.app; assert not [name for name in sys.modules if 'lossd_client' in name]"
    subprocess.run([sys.executable, "-c", script], timeout=60, check=True)

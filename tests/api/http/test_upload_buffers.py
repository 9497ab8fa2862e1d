"""The rest of a body, read past the parser: in order, all of it, and never over what is being looked at."""

from __future__ import annotations

import asyncio
import random

import pytest

from lossd.api.http import upload as uploads
from lossd.api.http.upload import Upload


class Caller:
    """A connection whose caller sends as fast as it is read.

    Attributes:
        reading: It is being read.
    """

    def __init__(self, data: bytes, dice: random.Random) -> None:
        self.reading = False
        self.upload = Upload(self, self, len(data))
        self._data = memoryview(data)
        self._dice = dice

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True

    def count_upload(self, nbytes: int) -> None:
        assert nbytes > 0

    def connection_lost(self, exc: Exception | None) -> None:
        pass

    def pause_writing(self) -> None:
        pass

    def resume_writing(self) -> None:
        pass

    def send(self) -> None:
        """Send some bytes, if they are read."""
        if not self.reading:
            return
        into = self.upload.get_buffer(-1)
        nbytes = min(len(into), self._dice.choice([1, 7, 50, 1000]))
        into[:nbytes] = self._data[:nbytes]
        self._data = self._data[nbytes:]
        self.upload.buffer_updated(nbytes)


@pytest.fixture(autouse=True)
def small_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "_SCRATCH_BYTES", 100)
    monkeypatch.setattr(uploads, "_spare", [])


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("aimed", [False, True])
def test_all_of_it_comes_in_order(seed: int, aimed: bool) -> None:
    dice = random.Random(seed)
    data = dice.randbytes(dice.choice([1, 99, 100, 101, 200, 1000, 5003]))

    async def read() -> bytes:
        caller = Caller(data, dice)
        assert not caller.reading  # nobody waits for it yet
        if aimed:
            caller.upload.aim(memoryview(bytearray(len(data))))
        found = bytearray()
        while not caller.upload.ended:
            asking = asyncio.create_task(caller.upload.chunk())
            await asyncio.sleep(0)
            while not asking.done():
                caller.send()
                await asyncio.sleep(0)
            chunk = await asking
            then = bytes(chunk)
            for _ in range(dice.randint(0, 3)):
                caller.send()
            assert bytes(chunk) == then  # what is handed out is not written over
            found += chunk
        caller.upload.close()
        return bytes(found)

    assert asyncio.run(read()) == data


def test_a_caller_who_hangs_up_leaves_what_has_come() -> None:
    async def read() -> list[bytes]:
        caller = Caller(b"abc" * 100, random.Random(0))
        asking = asyncio.create_task(caller.upload.chunk())
        await asyncio.sleep(0)
        caller.send()
        caller.upload.connection_lost(None)
        found = [bytes(await asking)]
        while chunk := await caller.upload.chunk():
            found.append(bytes(chunk))
        assert not caller.upload.ended
        return found

    found = b"".join(asyncio.run(read()))
    assert found
    assert (b"abc" * 100).startswith(found)


def test_who_waits_for_the_next_bytes_holds_no_buffer() -> None:
    async def read() -> None:
        caller = Caller(b"abc" * 100, random.Random(0))
        for _ in range(3):
            asking = asyncio.create_task(caller.upload.chunk())
            await asyncio.sleep(0)
            assert len(uploads._spare) == (1 if caller.upload.missing < 300 else 0)
            caller.send()
            assert await asking
            assert not caller.reading
            assert not uploads._spare

    asyncio.run(read())

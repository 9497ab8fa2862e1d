"""What arrives at once is parsed in pieces, so that bodies of tiny chunks take turns, as everything does."""

from __future__ import annotations

import asyncio

import pytest

from api.small_requests.test_lane import front_end, until
from lossd.api.http.request import PIECE_BYTES, RequestParser

HEAD = b"POST /elsewhere HTTP/1.1\r\nHost: x\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
TOKENS = 8_000
LENGTH = 60_000


async def pieces(sent: bytes, nbytes: int, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bool]]:
    """The length of each piece of a request, and whether it got a turn of its own; no turn has time left."""
    found: list[tuple[int, bool]] = []
    parse, asked = RequestParser.parse, True

    def has_time(_: float) -> bool:
        nonlocal asked
        asked = True
        return False

    def note(connection: RequestParser, data: bytes) -> None:
        nonlocal asked
        found.append((len(data), asked))
        asked = False
        parse(connection, data)

    monkeypatch.setattr(RequestParser, "parse", note)
    async with front_end() as front:
        monkeypatch.setattr(front.turns, "has_time", has_time)
        _, writer = await asyncio.open_connection("127.0.0.1", front.port)
        writer.write(sent)
        await until(lambda: [len(body) for body in front.ordinary] == [nbytes])
        [connection] = front.connections
        await until(lambda: connection.transport.is_reading())
        writer.close()
        await until(lambda: not front.connections)
    return found


def test_tiny_chunks_are_parsed_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = CHUNKED + b"3\r\n, 1\r\n" * TOKENS + b"0\r\n\r\n"
    found = asyncio.run(pieces(sent, 3 * TOKENS, monkeypatch))
    assert sum(length for length, _ in found) == len(sent)
    assert all(length <= PIECE_BYTES and asked for length, asked in found)


def test_a_body_of_known_length_is_taken_as_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = HEAD + b"Content-Length: %d\r\n\r\n" % LENGTH + bytes(LENGTH)
    found = asyncio.run(pieces(sent, LENGTH, monkeypatch))
    assert sum(length for length, _ in found) == len(sent)
    assert max(length for length, _ in found[1:]) > PIECE_BYTES

"""Attacks by waiting: uploads, answers, heads and handshakes that take as long as the server lets them."""

from __future__ import annotations

import asyncio
import io
from functools import partial
from typing import Final

import numpy as np

from bench.attacks.swarm import Peer, Swarm
from bench.payloads import npy
from bench.stream import parts

_UPLOAD_RATE: Final = 9_000.0
"""Bytes a second: just above the least upload rate."""
_AGAIN_SECONDS: Final = 1.0
"""How often a connection that is refused is opened again."""
_READ_BYTES, _READ_SECONDS = 1_500, 0.5
_UNREAD_SECONDS: Final = 60.0
_LARGE: Final = 870 << 20
"""The length of a body: two of them fill the part of the memory that is for bodies."""
_ARRAY_ROWS: Final = 1 << 17
_CLASSES: Final = 8


def _start_of_npy(rows: int) -> bytes:
    """Return the header of the logits of a long body."""
    file = io.BytesIO()
    fields = {"descr": "<f4", "fortran_order": False, "shape": (rows, 80)}
    np.lib.format.write_array_header_1_0(file, fields)
    return file.getvalue()


def _upload(swarm: Swarm, target: str, length: int, media: str = "application/x-npy") -> bytes:
    return swarm.head(f"POST {target}", f"Content-Type: {media}", f"Content-Length: {length}")


async def _upload_slowly(peer: Peer, head: bytes, filler: bytes = bytes(1 << 24), start: bytes = b"") -> None:
    await peer.send(head + start)
    await peer.drip(filler, _UPLOAD_RATE)


async def lockout(swarm: Swarm) -> None:
    """Fill the memory with two slow uploads, and wait for it on all connections."""
    start = _start_of_npy(_LARGE // 640)
    slow = partial(_upload_slowly, head=_upload(swarm, "/bce", _LARGE), start=start)

    async def wait(peer: Peer) -> None:
        await peer.send(_upload(swarm, "/bce", _LARGE))
        await peer.wait()

    async with asyncio.TaskGroup() as group:
        group.create_task(swarm.each(slow, count=2))
        await asyncio.sleep(0.2)
        group.create_task(swarm.each(wait, every=_AGAIN_SECONDS))


async def trickling_heads(swarm: Swarm) -> None:
    """Send heads by a byte every two seconds."""

    async def trickle(peer: Peer) -> None:
        await peer.send(b"GET /livez HTTP/1.1\r\nX: ")
        ended = asyncio.create_task(peer.wait())
        while not ended.done():
            await peer.send(b"x")
            await asyncio.wait([ended], timeout=2.0)

    await swarm.each(trickle, every=_AGAIN_SECONDS)


async def silent_connections(swarm: Swarm) -> None:
    """Connect, and send nothing."""
    await swarm.each(Peer.wait, every=_AGAIN_SECONDS)


async def unread_documents(swarm: Swarm) -> None:
    """Ask for the largest file of the documentation, and read nothing."""

    async def ask(peer: Peer) -> None:
        await peer.send(swarm.head("GET /docs/assets/swagger-ui-bundle.js"))
        await asyncio.sleep(_UNREAD_SECONDS)

    await swarm.each(ask, buffer=4096)


async def slow_uploads(swarm: Swarm) -> None:
    """Upload as slowly as the server allows, with lengths that fill the memory."""
    head, start = _upload(swarm, "/bce", _LARGE), _start_of_npy(_LARGE // 640)
    await swarm.each(partial(_upload_slowly, head=head, start=start))


async def slow_json(swarm: Swarm) -> None:
    """Upload JSON as slowly as the server allows; each body reserves five times its length."""
    head = _upload(swarm, "/bce", 32 << 20, "application/json")
    await swarm.each(partial(_upload_slowly, head=head, start=b'{"logits": [', filler=b"1.0, " * (1 << 20)))


async def slow_parts(swarm: Swarm) -> None:
    """Upload a form's parts slowly, a header's byte at a time."""
    head = _upload(swarm, "/bce", 32 << 20, "multipart/form-data; boundary=b")
    part = b'--b\r\nContent-Disposition: form-data; name="logits"\r\nX-Filler: '
    await swarm.each(partial(_upload_slowly, head=head, start=part, filler=b"x" * (1 << 20)))


async def paused_streams(swarm: Swarm) -> None:
    """Begin Arrow streams, and send their batches slowly."""
    schema, batch, _ = parts(50_000, "float32")  # a batch of 32 MB
    head = swarm.head(
        "POST /bce", "Content-Type: application/vnd.apache.arrow.stream", "Transfer-Encoding: chunked"
    )

    async def stream(peer: Peer) -> None:
        await peer.send(head + b"%x\r\n%b\r\n" % (len(schema), schema) + b"%x\r\n" % len(batch))
        await peer.drip(batch, _UPLOAD_RATE)

    await swarm.each(stream)


async def chunked_bodies(swarm: Swarm) -> None:
    """Upload bodies without a length slowly; each reserves the most that it may have."""
    head = swarm.head("POST /bce", "Content-Type: application/x-npy", "Transfer-Encoding: chunked")
    start = _start_of_npy(1 << 17)
    first = b"%x\r\n%b\r\n" % (len(start), start) + b"2000000\r\n"
    await swarm.each(partial(_upload_slowly, head=head, start=first))


async def slow_readers(swarm: Swarm) -> None:
    """Ask for array answers of 8 MiB that together fill their part of the memory, and read each at 3 kB/s."""
    logits, targets = np.zeros((_ARRAY_ROWS, _CLASSES), np.float16), np.zeros(_ARRAY_ROWS, np.uint8)
    body = npy(logits, targets)
    media = "Content-Type: application/x-npy", "Accept: application/x-npy", f"Content-Length: {len(body)}"
    request = swarm.head("POST /bce?reduction=none&targets_format=index", *media) + body

    async def read_slowly(peer: Peer) -> None:
        await peer.send(request)
        data = b"-"
        while data:
            await asyncio.sleep(_READ_SECONDS)
            data = await peer.receive(_READ_BYTES)

    await swarm.each(read_slowly, buffer=4096)


async def handshakes(swarm: Swarm) -> None:
    """Connect where TLS is spoken, and never begin the handshake."""
    await swarm.each(Peer.wait, every=_AGAIN_SECONDS)


async def broken_handshakes(swarm: Swarm) -> None:
    """Begin the handshake, and leave it at half of the first message."""
    hello = bytes.fromhex("16030102000100") + b"\x01\xfc\x03\x03" + bytes(200)

    async def begin(peer: Peer) -> None:
        await peer.send(hello)
        await peer.wait()

    await swarm.each(begin, every=_AGAIN_SECONDS)

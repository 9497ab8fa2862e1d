"""Attacks by what bodies say: bombs, deep or wide documents, framing that costs more than it carries."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
from functools import partial

import numpy as np

from bench.attacks.swarm import Peer, Swarm

_MIB = 1 << 20


async def _post(peer: Peer, request: bytes) -> None:
    await peer.send(request)
    while await peer.receive():
        pass


def _body(swarm: Swarm, body: bytes, media: str, *headers: str, target: str = "/bce") -> bytes:
    length = f"Content-Length: {len(body)}"
    return (
        swarm.head(f"POST {target}", f"Content-Type: {media}", "Connection: close", length, *headers) + body
    )


async def bombs(swarm: Swarm) -> None:
    """Send gzip that expands a thousandfold, up to the limit."""
    text = b'{"logits": [' + b" " * (63 * _MIB)
    coded = "Content-Encoding: gzip"
    await swarm.each(partial(_post, request=_body(swarm, gzip.compress(text), "application/json", coded)))


async def deep_json(swarm: Swarm) -> None:
    """Send JSON of a million brackets, for the helper to parse."""
    body = b'{"logits": ' + b"[" * _MIB
    await swarm.each(partial(_post, request=_body(swarm, body, "application/json")))


async def wide_json(swarm: Swarm) -> None:
    """Send JSON of a million arrays of a number each, for the helper to parse."""
    body = b'{"logits": [' + b"[1]," * (2 * _MIB) + b"[1]]}"
    await swarm.each(partial(_post, request=_body(swarm, body, "application/json")))


async def many_keys(swarm: Swarm) -> None:
    """Send JSON of a hundred thousand names that are no tensors."""
    body = b"{" + b",".join(b'"k%d":1' % n for n in range(100_000)) + b"}"
    await swarm.each(partial(_post, request=_body(swarm, body, "application/json")))


async def lying_archives(swarm: Swarm) -> None:
    """Send .npz files whose directories announce other sizes, and many members."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for n in range(2_000):
            archive.writestr(f"t{n}.npy", bytes(1_000))
        archive.writestr("logits.npy", bytes(4 * _MIB))
    many = file.getvalue()
    at = many.rfind(b"PK\x01\x02")
    lying = many[: at + 20] + struct.pack("<II", 0xFFFFFFFF, 0xFFFFFFFF) + many[at + 28 :]
    requests = [_body(swarm, body, "application/x-npz") for body in (many, lying)]

    async def send(peer: Peer) -> None:
        for request in requests:
            await _post(peer, request)

    await swarm.each(send)


async def tiny_chunks(swarm: Swarm) -> None:
    """Send bodies in chunks of a byte each, with an extension of the chunk."""
    file = io.BytesIO()
    np.save(file, np.zeros(10_000, np.float32))
    framed = b"".join(b"1;a=b\r\n%b\r\n" % bytes((one,)) for one in file.getvalue())
    head = swarm.head("POST /bce", "Content-Type: application/x-npy", "Transfer-Encoding: chunked")
    await swarm.each(partial(_post, request=head + framed * 5))


async def many_parts(swarm: Swarm) -> None:
    """Send forms of many empty parts."""
    part = b'--b\r\nContent-Disposition: form-data; name="x%d"\r\n\r\n\r\n'
    body = b"".join(part % n for n in range(20_000)) + b"--b--\r\n"
    await swarm.each(partial(_post, request=_body(swarm, body, "multipart/form-data; boundary=b")))


async def costly_parameters(swarm: Swarm) -> None:
    """Ask for a partial reduction with an output for each of very many rows of no elements."""
    file = io.BytesIO()
    for _ in range(2):
        np.save(file, np.zeros((8 * _MIB, 0), np.float32))
    target = "/bce?axis=1&normalizer=1"
    await swarm.each(
        partial(_post, request=_body(swarm, file.getvalue(), "application/x-npy", target=target))
    )

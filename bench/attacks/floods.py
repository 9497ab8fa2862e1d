"""Attacks by numbers: requests, connections and refusals, as many as the server takes."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Sequence
from functools import partial
from typing import Final

from bench.attacks.swarm import Peer, Swarm

_JSON: Final = b'{"logits": [1, 2, 3], "targets": [1, 0, 1]}'
_LOG_RATE: Final = 43_000.0
"""Bytes a second of requests that are refused."""


def _small(swarm: Swarm, *headers: str, target: str = "/bce") -> bytes:
    """Return a small request."""
    length = f"Content-Length: {len(_JSON)}"
    return swarm.head(f"POST {target}", "Content-Type: application/json", length, *headers) + _JSON


async def _keep_asking(peer: Peer, requests: Sequence[bytes]) -> None:
    """Send requests in turn, each once there is an answer, as long as the connection lasts."""
    while True:
        for request in requests:
            await peer.send(request)
            if not await peer.receive():
                return


async def _pour(peer: Peer, burst: bytes) -> None:
    """Send requests whether or not those before have been answered, as long as the connection lasts."""
    ended = asyncio.create_task(peer.wait())
    while not ended.done():
        await peer.send(burst)


async def _ask_once(peer: Peer, request: bytes) -> None:
    await peer.send(request)
    await peer.receive()


async def busy_connections(swarm: Swarm) -> None:
    """Send small requests on all connections, each as soon as the last is answered."""
    await swarm.each(partial(_keep_asking, requests=(_small(swarm, target="/bce?reduction=none"),)))


async def info_reads(swarm: Swarm) -> None:
    """Ask for /info on all connections, again and again."""
    await swarm.each(partial(_keep_asking, requests=(swarm.head("GET /info"),)))


async def busy_strangers(swarm: Swarm) -> None:
    """Ask for /livez on all connections, again and again."""
    await swarm.each(partial(_keep_asking, requests=(swarm.head("GET /livez"),)))


async def pipelines(swarm: Swarm) -> None:
    """Send hundreds of requests at once on each connection, and more before they are answered."""
    await swarm.each(partial(_pour, burst=_small(swarm) * 500))


async def pipelined_probes(swarm: Swarm) -> None:
    """Send hundreds of requests for /livez at once on each connection."""
    await swarm.each(partial(_pour, burst=swarm.head("GET /livez") * 500))


async def guessed_keys(swarm: Swarm) -> None:
    """Guess keys, another in each request."""

    async def guess(peer: Peer) -> None:
        while True:
            key = f"lossd_{random.getrandbits(40):010x}_{random.getrandbits(148):037x}"
            await peer.send(_small(swarm, f"X-API-Key: {key}"))
            if not await peer.receive():
                return

    await swarm.each(guess)


async def refused_requests(swarm: Swarm) -> None:
    """Ask for what is not there, by other methods, in odd framings, with a thousand characters of query."""
    requests = [
        swarm.head("GET /nothing"),
        swarm.head("HEAD /bce"),
        swarm.head("OPTIONS *"),
        swarm.head("DELETE /bce"),
        swarm.head("GET /info?" + "x=1&" * 500),
        swarm.head("GET /livez?" + "a" * 20_000),
    ]
    await swarm.each(partial(_keep_asking, requests=requests))


async def wrong_queries(swarm: Swarm) -> None:
    """Send long queries of parameters that do not exist."""
    query = "&".join(f"gama{n}=2" for n in range(2_000))
    await swarm.each(partial(_keep_asking, requests=(_small(swarm, target=f"/bce?{query}"),)))


async def long_lists(swarm: Swarm) -> None:
    """Send parameters of very many numbers, in the query and in JSON."""
    numbers = ",".join(["1"] * 15_000)
    body = b'{"logits": [1], "targets": [1], "alpha": [' + b"1," * 120_000 + b"1]}"
    head = swarm.head("POST /focal", "Content-Type: application/json", f"Content-Length: {len(body)}")
    requests = _small(swarm, target=f"/focal?alpha={numbers}"), head + body
    await swarm.each(partial(_keep_asking, requests=requests))


async def many_headers(swarm: Swarm) -> None:
    """Send heads with as many and as long headers as are taken, and then more."""
    fits = swarm.head("GET /livez", *(f"X-{n}: {'a' * 250}" for n in range(95)))
    over = swarm.head("GET /livez", *(f"X-{n}: a" for n in range(3_000)))
    await swarm.each(partial(_keep_asking, requests=(fits, over)))


async def metrics_reads(swarm: Swarm) -> None:
    """Ask for /metrics on all connections, again and again."""
    await swarm.each(partial(_keep_asking, requests=(swarm.head("GET /metrics"),)))


async def usage_reads(swarm: Swarm) -> None:
    """Ask for /usage on all connections, again and again."""
    await swarm.each(partial(_keep_asking, requests=(swarm.head("GET /usage?days=3650"),)))


async def documentation_reads(swarm: Swarm) -> None:
    """Ask for the largest file of the documentation on all connections."""
    requests = swarm.head("GET /docs/assets/swagger-ui-bundle.js"), swarm.head("GET /openapi.json")
    await swarm.each(partial(_keep_asking, requests=requests))


async def log_flood(swarm: Swarm) -> None:
    """Ask to be told to go on, and then break the framing: 43 kB/s of it."""
    head = swarm.head(
        "POST /bce", "Content-Type: application/json", "Expect: 100-continue", "Transfer-Encoding: chunked"
    )
    every = swarm.connections * (len(head) + 4) / _LOG_RATE

    async def break_off(peer: Peer) -> None:
        await peer.send(head)
        await peer.receive()
        await peer.send(b"zz\r\n")
        await peer.wait()

    await swarm.each(break_off, every=every)


async def request_ids(swarm: Swarm) -> None:
    """Have requests refused, each with an id of its own and as long as it may be."""

    async def refuse(peer: Peer) -> None:
        while True:
            number = f"{random.getrandbits(512):0128x}"
            await peer.send(_small(swarm, f"X-Request-Id: {number}", target="/bce?gama=2"))
            if not await peer.receive():
                return

    await swarm.each(refuse)


async def churn(swarm: Swarm) -> None:
    """Open a connection, ask for /livez, and close it, thousands of times a second."""
    await swarm.each(partial(_ask_once, request=swarm.head("GET /livez")))


async def resets(swarm: Swarm) -> None:
    """Send a request, and reset the connection before the answer."""
    request = _small(swarm)

    async def reset(peer: Peer) -> None:
        await peer.send(request)
        peer.reset()
        await asyncio.sleep(0)

    await swarm.each(reset)


async def tls_churn(swarm: Swarm) -> None:
    """Make TLS connections, and close them after the handshake."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    async def shake_hands(peer: Peer) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing)
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                await peer.send(outgoing.read())
                data = await peer.receive()
                if not data:
                    return
                incoming.write(data)
            else:
                return

    await swarm.each(shake_hands)

"""Many requests of every kind: what the server holds does not grow with their number.

Sizes, formats and what is wrong with them are drawn; LOSSD_SEED says which, LOSSD_REQUESTS how many.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from urllib.parse import quote

import numpy as np
import pytest

from bench.memory import family, pss
from faults.asked import scaled
from faults.load import Load, Plan, Request, post
from faults.observe import descriptors, is_free, metrics, port_of, threads, wait_until
from fuzz.corpus import (
    Case,
    Sample,
    arrow_samples,
    json_samples,
    multipart_samples,
    npy_samples,
    npz_samples,
    v2_samples,
)
from fuzz.mutate import mutate
from fuzz.reading import MEDIA
from live_server import LiveServer, live_server
from wire.feeding import BOUNDARY

REQUESTS = int(os.environ.get("LOSSD_REQUESTS", scaled(6000, 1_000_000)))
SEED = int(os.environ.get("LOSSD_SEED", "1"))
LARGEST = 100_000
ROUNDS = 40
"""Between which everything is looked at, while nothing goes on."""
AT_ONCE = 4
MOST_SLOPE = scaled(1000.0, 8.0)
"""Bytes a request. Allocators move by megabytes whatever happens, over few requests as over many."""

MIB = 1 << 20


def good(random: Random) -> Iterator[Request]:
    """Requests of every format, from one element to many."""
    writers = [json_samples, npy_samples, npz_samples, multipart_samples, arrow_samples]
    writers += [lambda case: v2_samples(case, binary=True), lambda case: v2_samples(case, binary=False)]
    for number in range(15):
        elements = int(LARGEST ** ((number / 14) ** 2))  # most are small
        columns = random.choice((1, 3, 80))
        rows = max(1, elements // columns)
        x = np.random.default_rng(number).normal(0, 3, (rows, columns)).astype(np.float32)
        loss = random.choice(("bce", "focal"))
        case = Case(f"{rows}x{columns}", {"logits": x, "targets": (x > 3).astype(np.uint8)}, {}, loss)
        for write in writers:
            for sample in write(case):
                if rows < 100 or not sample.name.endswith("by 2"):  # many batches take long, each of them
                    yield as_request(sample, sample.body)


def as_request(sample: Sample, body: bytes, name: str = "good") -> Request:
    v2 = sample.format == "v2"
    target = f"/v2/models/{sample.loss}/infer" if v2 else f"/{sample.loss}?{quote(sample.query, '=&,')}"
    media = MEDIA.get(sample.format, "application/octet-stream")
    if sample.format == "multipart":
        media += f"; boundary={BOUNDARY}"
    length = {} if sample.header_length is None else {"Inference_Header_Content_Length": sample.header_length}
    return post(target, body, media, name, **length)


def hostile(requests: list[Request], random: Random) -> Iterator[Request]:
    """Mutants, callers who hang up midway, and those who lie about lengths or speak something else."""
    for request in requests:
        yield Request("mutant", *remade(request, mutate(request.body[:5000], b"", random)))
        whole = len(request.head) + len(request.body)
        yield Request("hangs up", request.head, request.body, random.randrange(whole))
        yield Request("trailing", *remade(request, request.body + b"more"))
    yield Request("too large", b"POST /bce HTTP/1.1\r\nHost: x\r\nContent-Length: 1099511627776\r\n\r\n")
    yield Request("no HTTP", b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n")
    yield Request("nowhere", b"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n" % (b"a" * 1000))
    yield Request("unknown", *remade(post("/bce?gama=2", b"{}", "application/json"), b"{}"))


def remade(request: Request, body: bytes) -> tuple[bytes, bytes]:
    """A request's head for another body."""
    was, now = (b"Content-Length: %d\r\n" % len(which) for which in (request.body, body))
    return request.head.replace(was, now), body


@dataclass(frozen=True, slots=True)
class Held:
    """What a server's processes hold together between requests: bytes of their own, and other things."""

    memory: int
    descriptors: int
    threads: int
    series: int

    @classmethod
    def by(cls, server: LiveServer) -> Held:
        wait_until(lambda: is_free(server), 5, "something is held though nobody asks")
        series = len(metrics(server))
        processes = family(server.process.pid)
        return cls(
            sum(pss(pid, "Pss_Anon") for pid in processes),
            sum(map(descriptors, processes)),
            sum(map(threads, processes)),
            series,
        )


def slope(values: list[int], each: int) -> float:
    """By how much values grow, a request: the median over all pairs of rounds (Theil and Sen)."""
    places = range(len(values))
    slopes = [(values[j] - values[i]) / (j - i) for i in places for j in places if i < j]
    return float(np.median(slopes)) / each


@pytest.mark.timeout(120 + REQUESTS / 50)
def test_nothing_grows(tmp_path: Path, say: Callable[[str], None]) -> None:
    random = Random(SEED)
    fine = list(good(random))
    bad = list(hostile(random.sample(fine, 40), random))
    mixed = [*fine * 19, *random.choices(bad, k=len(fine))]
    each = max(1, REQUESTS // ROUNDS)
    found: Counter[tuple[str, int]] = Counter()
    held = []
    with live_server(tmp_path) as server, Load() as load:
        port = port_of(server)
        load.run(Plan(port, [*fine, *bad], at_once=AT_ONCE, count=len(fine) + len(bad)))  # all of them, once
        load.run(Plan(port, mixed, at_once=AT_ONCE, count=1))
        for number in range(ROUNDS):
            shots = load.run(Plan(port, (), at_once=AT_ONCE, count=each, seed=SEED + number))
            found.update((shot.name, shot.status) for shot in shots)
            held.append(Held.by(server))
    later = held[ROUNDS // 3 :]
    grown = slope([one.memory for one in later], each)
    fell = sum(count for (name, status), count in found.items() if name == "good" and status != 200)
    refused = sum(count for (_, status), count in found.items() if 400 <= status < 500)
    unanswered = sum(count for (_, status), count in found.items() if not status)
    first, last = later[0], later[-1]
    say(
        f"{found.total()} mixed requests (LOSSD_SEED={SEED}), {refused} refused, {unanswered} hung up: "
        f"memory {held[0].memory / MIB:.1f} MiB after {each}, {first.memory / MIB:.1f} after a third, "
        f"{last.memory / MIB:.1f} in the end, {grown:+.2f} bytes a request from the third on; descriptors "
        f"{first.descriptors} and {last.descriptors}, threads {first.threads} and {last.threads}, series "
        f"{first.series} and {last.series}"
    )
    assert fell == 0
    assert not [status for _, status in found if status >= 500]
    assert refused > 0.01 * found.total()
    assert grown < MOST_SLOPE
    assert max(one.descriptors for one in later) <= min(one.descriptors for one in later) + 2
    assert max(one.threads for one in later) <= min(one.threads for one in later) + 2
    assert {one.series for one in later} == {later[0].series}

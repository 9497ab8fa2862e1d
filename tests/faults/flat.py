"""What the tests of many requests share: their requests, and what a server holds between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

import numpy as np

from bench.memory import family, pss
from faults.asked import scaled
from faults.load import Request, post
from faults.observe import descriptors, is_free, metrics, threads, wait_until
from fuzz.corpus import Sample
from fuzz.reading import MEDIA
from live_server import LiveServer
from wire.feeding import BOUNDARY

MOST_SLOPE: Final = scaled(1000.0, 8.0)
"""Bytes a request. Allocators move by megabytes whatever happens, over few requests as over many."""
MIB: Final = 1 << 20


def as_request(sample: Sample, body: bytes, name: str = "good") -> Request:
    v2 = sample.format == "v2"
    target = f"/v2/models/{sample.loss}/infer" if v2 else f"/{sample.loss}?{quote(sample.query, '=&,')}"
    media = MEDIA.get(sample.format, "application/octet-stream")
    if sample.format == "multipart":
        media += f"; boundary={BOUNDARY}"
    length = {} if sample.header_length is None else {"Inference_Header_Content_Length": sample.header_length}
    return post(target, body, media, name, **length)


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


def check_flat(held: Sequence[Held], each: int) -> str:
    """See to it that nothing grows from the first third of the rounds on; the figures, in words."""
    later = held[len(held) // 3 :]
    grown = slope([one.memory for one in later], each)
    first, last = later[0], later[-1]
    said = (
        f"memory {held[0].memory / MIB:.1f} MiB after {each}, {first.memory / MIB:.1f} after a third, "
        f"{last.memory / MIB:.1f} in the end, {grown:+.2f} bytes a request from the third on; descriptors "
        f"{first.descriptors} and {last.descriptors}, threads {first.threads} and {last.threads}, series "
        f"{first.series} and {last.series}"
    )
    assert grown < MOST_SLOPE, said
    assert max(one.descriptors for one in later) <= min(one.descriptors for one in later) + 2, said
    assert max(one.threads for one in later) <= min(one.threads for one in later) + 2, said
    assert {one.series for one in later} == {later[0].series}, said
    return said

"""Many requests of every kind: what the server holds does not grow with their number.

Sizes, formats and what is wrong with them are drawn; LOSSD_SEED says which, LOSSD_REQUESTS how many.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import numpy as np
import pytest

from faults.asked import scaled
from faults.flat import Held, as_request, check_flat, remade
from faults.load import Load, Plan, Request, post
from faults.observe import port_of
from fuzz.corpus import (
    Case,
    arrow_samples,
    json_samples,
    multipart_samples,
    npy_samples,
    npz_samples,
    v2_samples,
)
from fuzz.mutate import mutate
from live_server import live_server

REQUESTS = int(os.environ.get("LOSSD_REQUESTS", scaled(6000, 1_000_000)))
SEED = int(os.environ.get("LOSSD_SEED", "1"))
LARGEST = 100_000
ROUNDS = 40
"""Between which everything is looked at, while nothing goes on."""
AT_ONCE = 4


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
    fell = sum(count for (name, status), count in found.items() if name == "good" and status != 200)
    refused = sum(count for (_, status), count in found.items() if 400 <= status < 500)
    unanswered = sum(count for (_, status), count in found.items() if not status)
    said = check_flat(held, each)
    say(
        f"{found.total()} mixed requests (LOSSD_SEED={SEED}), {refused} refused, {unanswered} hung up: {said}"
    )
    assert fell == 0
    assert not [status for _, status in found if status >= 500]
    assert refused > 0.01 * found.total()

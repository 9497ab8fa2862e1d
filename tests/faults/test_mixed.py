"""Teams' small requests of every format, and a twentieth that is hostile: nothing grows with their number.

LOSSD_SEED says which are sent, LOSSD_REQUESTS how many.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest

from faults.asked import pair_body, scaled
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
from lossd.teams import Limits, Team, digest_of, new_key
from lossd.teams_file import add_key, add_team, set_disabled
from wire.feeding import npy

REQUESTS = int(os.environ.get("LOSSD_REQUESTS", scaled(4000, 200_000)))
SEED = int(os.environ.get("LOSSD_SEED", "1"))
ROUNDS = 20
"""Between which everything is looked at, while nothing goes on."""
WARM_UP = 5000
"""Requests before that: allocators take theirs by and by."""
AT_ONCE = 4
TEAMS = ("vision", "speech", "night.jobs")


def good(keys: dict[str, str], random: Random) -> Iterator[Request]:
    """Small requests of every format, each by one of the teams."""
    writers = [json_samples, npy_samples, npz_samples, multipart_samples, arrow_samples]
    writers += [lambda case: v2_samples(case, binary=True), lambda case: v2_samples(case, binary=False)]
    for number, (rows, columns) in enumerate([(1, 1), (1, 80), (7, 3), (32, 80)]):
        x = np.random.default_rng(number).normal(0, 3, (rows, columns)).astype(np.float32)
        loss = ("bce", "focal")[number % 2]
        case = Case(f"{rows}x{columns}", {"logits": x, "targets": (x > 3).astype(np.uint8)}, {}, loss)
        for write in writers:
            for sample in write(case):
                yield by(as_request(sample, sample.body), keys[random.choice(TEAMS)])


def by(request: Request, key: str, header: str = "Authorization: Bearer") -> Request:
    """A request with a key."""
    line, _, rest = request.head.partition(b"\r\n")
    return replace(request, head=b"%s\r\n%s %s\r\n%s" % (line, header.encode(), key.encode(), rest))


def hostile(keys: dict[str, str], random: Random) -> Iterator[Request]:
    """Wrong keys, what is no HTTP or two things at once, callers who hang up, and arrays that are none."""
    key, body = keys["vision"], pair_body(32)
    fine = post("/focal", body)
    wrong = [key[:-1], key + "x", "", "x" * 5000, new_key()[1], keys["asleep"], keys["slow"], keys["slow"]]
    for text in wrong:
        yield replace(by(fine, text), name="bad key")
        yield replace(by(fine, text, "X-API-Key:"), name="bad key")
    yield replace(by(by(fine, key), keys["speech"], "X-API-Key:"), name="bad key")
    for _ in range(6):
        whole = by(fine, key)
        cut = random.randrange(len(whole.head) + len(body))
        yield replace(whole, name="hangs up", cut=cut)
        yield replace(whole, name="hangs up", cut=random.randrange(len(whole.head)))
    yield from framed(key, body)
    for array in strange_arrays(body, random):
        yield by(Request("bad npy", *remade(fine, array)), key)


def framed(key: str, body: bytes) -> Iterator[Request]:
    """Heads that no caller should send; each is the last of its connection."""

    def ask(*lines: str, first: str = "POST /focal HTTP/1.1", rest: bytes = body) -> Request:
        common = ["Host: localhost", f"Authorization: Bearer {key}", "Content-Type: application/x-npy"]
        return Request(
            "bad head", "\r\n".join([first, *common, "Connection: close", *lines, "", ""]).encode(), rest
        )

    length = f"Content-Length: {len(body)}"
    yield ask("Content-Length: 1099511627776")
    yield ask("Content-Length: -1")
    yield ask("Content-Length: 1e3")
    yield ask(length, "Content-Length: 7")
    yield ask(length, "Transfer-Encoding: chunked")
    yield ask("Transfer-Encoding: gzip, x")
    yield ask("Transfer-Encoding: chunked", rest=b"zz\r\nhello\r\n0\r\n\r\n")
    yield ask(f"Content-Length: {len(body) - 100}")
    yield ask(length, "X-Long: " + "a" * 60_000)
    yield ask(length, *(f"X-{number}: a" for number in range(300)))
    yield ask(length, "X-Broken\x00: a")
    yield ask(length, " folded: a")
    yield ask(length, first="POST /focal?" + "a" * 20_000 + " HTTP/1.1")
    yield ask(length, first="POST /focal HTTP/9.9")
    yield ask(length, first="\x7f\x00 / HTTP/1.1")
    yield Request("bad head", b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n")
    yield Request("bad head", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    yield replace(ask("Content-Length: 999999"), name="hangs up", cut=len(body))


def strange_arrays(body: bytes, random: Random) -> Iterator[bytes]:
    """Bodies of .npy that are not what their heads say, or say too much."""
    whole = npy(np.zeros((32, 80), np.float32))
    yield b""
    yield body[: len(body) // 2]
    yield body + b"more"
    yield b"\x93NUMPY\xff" + body[7:]
    yield whole.replace(b"(32, 80)", b"(3200000000, 80)") * 2
    yield whole.replace(b"'<f4'", b"'|O'") * 2
    yield whole.replace(b"'<f4'", b"'<U9'") * 2
    yield whole.replace(b"False", b"__import__('os')") * 2
    for _ in range(20):
        yield mutate(body, b"", random)


def teams(path: Path) -> dict[str, str]:
    """Makes a teams file; the teams' keys."""
    limits = {"slow": Limits(requests_per_second=0.01)}
    keys = {}
    for name in (*TEAMS, "asleep", "slow"):
        add_team(path, Team(name, limits=limits.get(name, Limits())))
        key_id, keys[name] = new_key()
        add_key(path, name, key_id, digest_of(keys[name]))
    set_disabled(path, "asleep", True)
    return keys


@pytest.mark.timeout(120 + REQUESTS / 50)
def test_nothing_grows_with_teams_and_a_twentieth_hostile(tmp_path: Path, say: Callable[[str], None]) -> None:
    random, path = Random(SEED), tmp_path / "teams.toml"
    keys = teams(path)
    fine, bad = list(good(keys, random)), list(hostile(keys, random))
    mixed = [*fine * 19, *random.choices(bad, k=len(fine))]
    each = max(1, REQUESTS // ROUNDS)
    found: Counter[tuple[str, int]] = Counter()
    held = []
    with live_server(tmp_path, teams=path, metrics_open=True) as server, Load() as load:
        port = port_of(server)
        every = [*fine, *bad, *bad]  # what is bad twice, for what only the second time is
        first = load.run(Plan(port, every, at_once=AT_ONCE, count=len(every)))
        first += load.run(Plan(port, mixed, at_once=AT_ONCE, count=WARM_UP, seed=SEED))
        for number in range(ROUNDS):
            shots = load.run(Plan(port, (), at_once=AT_ONCE, count=each, seed=SEED + number))
            found.update((shot.name, shot.status) for shot in shots)
            held.append(Held.by(server))
    said = check_flat(held, each)
    refused = sum(count for (_, status), count in found.items() if 400 <= status < 500)
    say(f"{found.total()} mixed requests of teams (LOSSD_SEED={SEED}), {refused} refused: {said}")
    found.update((shot.name, shot.status) for shot in first)
    assert {status for name, status in found if name == "good"} == {200}
    assert not [pair for pair in found if pair[1] >= 500]
    assert refused > 0.01 * ROUNDS * each

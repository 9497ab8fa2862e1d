"""Large arrays: what is copied, and how much of them is in memory at a time."""

import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np

from client.playback import SCALAR, Answer
from lossd_client import LossClient, Request, Response, Retry, Timeout
from lossd_client._calls.arrays import forget

OVERLOADED = Answer.of_problem(503, "overloaded", retryable=True)


class Keep:
    """Fails twice, and keeps the pieces that were to be sent."""

    def __init__(self) -> None:
        self.bodies: list[tuple[bytes | memoryview, ...]] = []

    def send(self, request: Request, timeout: Timeout) -> Response:
        self.bodies.append(request.body)
        if len(self.bodies) < 3:
            return Response(503, {"content-type": OVERLOADED.media_type}, OVERLOADED.body)
        return Response(200, {"content-type": "application/json"}, Answer.of_json(SCALAR).body)

    def close(self) -> None:
        pass


def test_a_large_array_is_sent_and_sent_again_from_where_it_lies() -> None:
    logits = np.zeros((1 << 10, 1 << 10))
    targets = np.full((1 << 10, 1 << 10), 0.5, dtype=np.float32, order="F")
    keep = Keep()
    retry = Retry(first_wait=0.001, longest_wait=0.002)
    with LossClient(transport=lambda: keep, request_bytes=1 << 30, retry=retry) as client:
        tracemalloc.start()
        try:
            client.bce(logits, targets)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert len(keep.bodies) == 3
    for body in keep.bodies:
        for piece, array in zip(body[1::2], (logits, targets), strict=True):
            assert np.shares_memory(np.frombuffer(piece, dtype=np.uint8), array)
    assert peak < 4 << 20  # of 12 MiB: looking for 0 and 1 takes some


MAPPED = """
import sys, numpy
from lossd_client import LossClient, Response

class Discard:
    def send(self, request, timeout):
        for piece in request.body:
            numpy.frombuffer(piece, dtype=numpy.uint8).max(initial=0)  # reads it
        headers = {"content-type": "application/json"}
        return Response(200, headers, b'{"loss":1,"sum":1,"count":1,"weight_sum":1,"positives":0}')
    def close(self): pass

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))

x, y = (numpy.load(name, mmap_mode="r") for name in sys.argv[1:])
with LossClient(transport=Discard, request_bytes=4 << 20) as client:
    client.bce(x[:9], y[:9])
    before = peak()
    assert client.bce(x, y).count >= 50
    print(peak() - before)
"""


def test_mapped_files_are_not_in_memory_whole(tmp_path: Path) -> None:
    for name in ("x", "y"):
        array = np.lib.format.open_memmap(tmp_path / f"{name}.npy", "w+", np.float32, (200 << 10, 128))
        array[:] = 1.0  # 100 MiB
        del array
    names = [str(tmp_path / f"{name}.npy") for name in ("x", "y")]
    done = subprocess.run([sys.executable, "-c", MAPPED, *names], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 64 << 10  # KiB


def test_what_was_let_go_is_read_again(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(100_000.0))
    for mode in ("r", "r+", "c"):
        mapped = np.load(tmp_path / "x.npy", mmap_mode=mode)
        if mode != "r":
            mapped[5000:] += 1
        expected = mapped.copy()
        for part in (mapped, mapped[1000:], mapped[3:4], mapped[::2], mapped[:0], np.asarray(mapped)[9:]):
            forget(part)
        np.testing.assert_array_equal(mapped, expected)
    forget(np.ones(3))
    forget(np.frombuffer(b"12345678"))

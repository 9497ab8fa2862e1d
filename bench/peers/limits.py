"""What no server can beat: bytes through loopback, a copy in memory, the kernel alone.

Each in processes of its own, by CPU time and by the clock: ``python -m bench.peers.limits core eager``.
"""

from __future__ import annotations

import json
import resource
import socket
import subprocess
import sys
import time
from typing import Any, Final

import numpy as np

from bench.peers.catalog import LOSSD, variables
from bench.peers.payloads import LARGE, SIZES, elements, expected, numbers

_BYTES: Final = 2 * 4 * elements(LARGE)
_TIMES: Final = 4
_RECEIVER: Final = """
import resource, socket, sys
buffer = memoryview(bytearray(1 << 20))
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as connection:
    left = int(sys.argv[2])
    while left:
        left -= connection.recv_into(buffer)
    connection.sendall(b".")
used = resource.getrusage(resource.RUSAGE_SELF)
print(used.ru_utime + used.ru_stime - 0.0)
"""


def _used() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def loopback() -> dict[str, float]:
    """Sendall of as many bytes as a large request has to a process that reads them into 1 MiB."""
    body = memoryview(bytearray(_BYTES))
    found = []
    for total in (0, _TIMES * _BYTES):  # the first is what the receiver's start costs
        with socket.create_server(("127.0.0.1", 0)) as listener:
            command = [sys.executable, "-c", _RECEIVER, str(listener.getsockname()[1]), str(total)]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as receiver:  # noqa: S603 -- ours
                connection, _ = listener.accept()
                with connection:
                    before, began = _used(), time.perf_counter()
                    for _ in range(total // _BYTES):
                        connection.sendall(body)
                    connection.recv(1)
                    seconds, sent = time.perf_counter() - began, _used() - before
                text, _ = receiver.communicate()
                found.append((seconds, sent, float(text)))
    (_, _, start), (seconds, sent, received) = found
    return {"seconds": seconds / _TIMES, "cpu": (sent + received - start) / _TIMES, "bytes": float(_BYTES)}


def copy() -> dict[str, float]:
    """The same bytes from one place in memory to another."""
    source, target = np.ones(_BYTES, np.uint8), np.zeros(_BYTES, np.uint8)
    before, began = _used(), time.perf_counter()
    for _ in range(_TIMES):
        np.copyto(target, source)
    seconds, cpu = time.perf_counter() - began, _used() - before
    return {"seconds": seconds / _TIMES, "cpu": cpu / _TIMES, "bytes": float(_BYTES)}


def core(kernel_name: str) -> dict[str, float]:
    """The kernel on a large request's numbers, which lie in memory; the least of several is no fluke here."""
    import torch  # a process that does not compute needs none

    from bench.core import work
    from lossd.core.compiled import CompiledKernel
    from lossd.core.kernel import EagerKernel

    torch.set_num_threads(1)
    kernel: EagerKernel = CompiledKernel() if kernel_name == "compiled" else EagerKernel()
    x, y = numbers(LARGE)
    job = work("bce", (SIZES[LARGE], x.shape[1]), x, y)
    kernel.score(job, 0, job.grid.blocks)
    before, began = _used(), time.perf_counter()
    for _ in range(_TIMES):
        kernel.score(job, 0, job.grid.blocks)
    seconds, cpu = time.perf_counter() - began, _used() - before
    return {"seconds": seconds / _TIMES, "cpu": cpu / _TIMES, "expected": expected(LARGE)}


def measure(*words: str) -> dict[str, float]:
    """One limit, in a process of its own."""
    kept = variables(LOSSD, 0)
    cache = kept.pop("LOSSD_CACHE_DIR")
    done = subprocess.run(  # noqa: S603 -- our own command
        [sys.executable, "-m", "bench.peers.limits", *words],
        env=kept | {"TORCHINDUCTOR_CACHE_DIR": f"{cache}/core"},
        stdout=subprocess.PIPE,
        check=True,
        timeout=300,
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    limits: dict[str, Any] = {"loopback": loopback, "copy": copy, "core": core}
    print(json.dumps(limits[sys.argv[1]](*sys.argv[2:])))  # noqa: T201

"""Count the files that one request enters, from the socket to the answer: `python -m scripts.request_way`.

The fewer they are, the sooner the way is understood. A server is started with a profiler in each of its
processes; after a few requests to warm up, one is watched. Printed are the files it enters, in the front end
and in the worker, in the order of their first call.
"""

from __future__ import annotations

import json
import os
import signal
import tempfile
import time
from pathlib import Path
from typing import Final

import numpy as np

from lossd_client import LossClient
from lossd_client.local import LocalServer

PACKAGE: Final = Path(__file__).parents[1] / "service" / "lossd"
WAYS: Final[dict[str, dict[str, object]]] = {"small": {}, "ordinary": {"inline_ms": 0}}
"""The settings with which a small .npy request is scored by the front end itself, or by a worker."""
_HOOK: Final = '''\
"""Note each call of a function of the package, from one SIGUSR2 to the next."""
import json, os, signal, sys, threading

package, folder = os.environ["REQUEST_WAY"].split(os.pathsep)
calls, noting = [], False

def profile(frame, event, argument):
    if noting and event == "call" and frame.f_code.co_filename.startswith(package):
        calls.append(frame.f_code.co_filename)

def save(state):
    target = os.path.join(folder, f"{os.getpid()}.{state}")
    with open(target + ".part", "w") as file:
        json.dump(calls, file)
    os.rename(target + ".part", target)

def toggle(number, frame):
    global noting
    noting = not noting
    save("noting" if noting else "calls")

if any(part.startswith("lossd.") for part in sys.orig_argv):
    signal.signal(signal.SIGUSR2, toggle)
    threading.setprofile(profile)
    sys.setprofile(profile)
    save("started")
'''
_SECONDS: Final = 60


def files_entered(way: str) -> dict[str, list[str]]:
    """The files that a small .npy request enters, by process, each in the order of their first call.

    Args:
        way: One of `WAYS`.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "sitecustomize.py").write_text(_HOOK)
        hooked = {"PYTHONPATH": name, "REQUEST_WAY": f"{PACKAGE}{os.pathsep}{name}"}
        before = {key: os.environ.get(key) for key in hooked}
        if before["PYTHONPATH"]:
            hooked["PYTHONPATH"] += os.pathsep + before["PYTHONPATH"]
        os.environ.update(hooked)
        try:
            server = LocalServer({"device": "cpu", **WAYS[way]})
        finally:
            for key, value in before.items():
                os.environ.pop(key)
                if value is not None:
                    os.environ[key] = value
        try:
            server.wait_until_ready()
            _watch_one(server.url, folder)
        finally:
            server.stop()
        found = {}
        for path in sorted(folder.glob("*.calls")):
            calls = dict.fromkeys(json.loads(path.read_text()))
            if calls:
                found[path.stem] = [str(Path(call).relative_to(PACKAGE)) for call in calls]
        return found


def _watch_one(url: str, folder: Path) -> None:
    logits = np.linspace(-3, 3, 32 * 80, dtype=np.float32).reshape(32, 80)
    targets = (logits > 0).astype(np.float32)
    with LossClient(url) as client:
        for _ in range(5):
            client.bce(logits, targets)
        _toggle(folder, "noting")
        client.bce(logits, targets)
        _toggle(folder, "calls")


def _toggle(folder: Path, state: str) -> None:
    """Have all processes begin, or end, noting calls, and wait until they do."""
    processes = [path.stem for path in folder.glob("*.started")]
    for process in processes:
        os.kill(int(process), signal.SIGUSR2)
    ends = time.monotonic() + _SECONDS
    while not all((folder / f"{process}.{state}").exists() for process in processes):
        if time.monotonic() > ends:
            raise TimeoutError(f"not all of the processes {', '.join(processes)} reached {state!r}")
        time.sleep(0.01)


def main() -> None:
    """Print the files of both ways."""
    for way in WAYS:
        found = files_entered(way)
        print(f"{way}: {len(set().union(*found.values()))} files")
        for process, files in found.items():
            print(f"  process {process}: {len(files)}")
            print("".join(f"    {file}\n" for file in files), end="")


if __name__ == "__main__":
    main()

"""Count the files that one request enters, from the socket to the answer: `python -m scripts.request_way`.

The fewer they are, the sooner a reader understands the way. A server is started with a profiler in each of
its processes. After a few requests to warm up, some are watched one by one. A file counts if each of them
enters it: timers run during some of them only. The files are printed by process, in the order of their first
call.
"""

from __future__ import annotations

import json
import os
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np

from lossd_client import LossClient
from lossd_client.local import LocalServer

PACKAGE: Final = Path(__file__).parents[1] / "service" / "lossd"
WAYS: Final[dict[str, dict[str, object]]] = {"small": {}, "ordinary": {"inline_ms": 0}}
"""Settings with which a small .npy request is scored by the front end itself, or by a worker."""
MOST_FILES: Final = {"small": 14, "ordinary": 30}
"""The most files that each way may enter, in all processes together; a test holds them."""

_HOOK: Final = '''\
"""Record each call of a function of the package, from one SIGUSR2 to the next."""
import json, os, signal, sys, threading

package, folder = os.environ["REQUEST_WAY"].split(os.pathsep)
calls, recording = [], False

def profile(frame, event, argument):
    if recording and event == "call" and frame.f_code.co_filename.startswith(package):
        calls.append(frame.f_code.co_filename)

def save(state):
    target = os.path.join(folder, f"{os.getpid()}.{state}")
    with open(target + ".part", "w") as file:
        json.dump(calls, file)
    os.rename(target + ".part", target)

def toggle(number, frame):
    global recording
    recording = not recording
    save("recording" if recording else "calls")
    calls.clear()

if any(part.startswith("lossd.") for part in sys.orig_argv):
    signal.signal(signal.SIGUSR2, toggle)
    threading.setprofile(profile)
    sys.setprofile(profile)
    save("started")
'''
_WATCHED: Final = 10  # requests
_TIMEOUT_SECONDS: Final = 60
_AFTER_SECONDS: Final = 0.02  # for what is done once the answer is sent, such as the log


def files_entered(way: str) -> dict[str, list[str]]:
    """Return the files that a small .npy request enters, by process, in the order of their first call.

    Args:
        way: A key of `WAYS`.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "sitecustomize.py").write_text(_HOOK)
        path = [name, *filter(None, [os.environ.get("PYTHONPATH")])]
        variables = {"PYTHONPATH": os.pathsep.join(path), "REQUEST_WAY": f"{PACKAGE}{os.pathsep}{name}"}
        with _environment(variables):
            server = LocalServer({"device": "cpu", **WAYS[way]})
        try:
            server.wait_until_ready()
            return _watch(server.url, folder)
        finally:
            server.stop()


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Set environment variables for a while."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def _watch(url: str, folder: Path) -> dict[str, list[str]]:
    """Send requests one by one, and return the files that each of them enters, by process."""
    logits = np.linspace(-3, 3, 32 * 80, dtype=np.float32).reshape(32, 80)
    targets = (logits > 0).astype(np.float32)
    entered: dict[str, Counter[str]] = {}
    with LossClient(url) as client:
        for _ in range(5):
            client.bce(logits, targets)
        for _ in range(_WATCHED):
            _toggle(folder, "recording")
            client.bce(logits, targets)
            time.sleep(_AFTER_SECONDS)
            _toggle(folder, "calls")
            for path in folder.glob("*.calls"):
                files = dict.fromkeys(json.loads(path.read_text()))
                entered.setdefault(path.stem, Counter()).update(files.keys())
    found = {
        process: [str(Path(file).relative_to(PACKAGE)) for file, times in files.items() if times == _WATCHED]
        for process, files in sorted(entered.items())
    }
    return {process: files for process, files in found.items() if files}


def _toggle(folder: Path, state: str) -> None:
    """Have all processes begin or end recording, and wait until they have."""
    processes = [path.stem for path in folder.glob("*.started")]
    for process in processes:
        (folder / f"{process}.{state}").unlink(missing_ok=True)
        os.kill(int(process), signal.SIGUSR2)
    give_up = time.monotonic() + _TIMEOUT_SECONDS
    while not all((folder / f"{process}.{state}").exists() for process in processes):
        if time.monotonic() > give_up:
            raise TimeoutError(f"not all of the processes {', '.join(processes)} reached {state!r}")
        time.sleep(0.002)


def count(found: dict[str, list[str]]) -> int:
    """Return the number of files in all processes together."""
    return len(set().union(*found.values()))


def main() -> None:
    """Print the files of both ways."""
    for way, most in MOST_FILES.items():
        found = files_entered(way)
        print(f"{way}: {count(found)} files, at most {most}")
        for process, files in found.items():
            print(f"  process {process}: {len(files)}")
            print("".join(f"    {file}\n" for file in files), end="")


if __name__ == "__main__":
    main()

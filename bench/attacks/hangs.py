"""Parts of a server that hang: each is stopped under load, and it is measured when that is noticed."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.attacks.bodies import wide_json
from bench.attacks.siege import Siege
from bench.memory import family

PARTS: Final = {
    "supervisor": "lossd\0serve",
    "front end": "lossd.api.main",
    "worker": "lossd.engine.worker.main",
    "helper": "lossd.api.helpers.json_parser",
    "admin listener": "lossd.api.admin",
}
"""Each with what its command line has."""
NOTICED_SECONDS: Final = 15.0
"""In which a hung part must be noticed."""
_PATIENCE_SECONDS: Final = 25.0


@dataclass(frozen=True, slots=True)
class Hang:
    """What was seen of a part that hung.

    Attributes:
        part: The part.
        noticed: Seconds until it was replaced, or the server said that it is not ready; None for never.
        served: Seconds until a new caller was served; None for never.
    """

    part: str
    noticed: float | None
    served: float | None


def hang(siege: Siege, part: str) -> Hang:
    """Stop a part of a server, and see when that is noticed, and when callers are served."""
    with siege.attacked(wide_json, connections=4, key=True):
        siege.see(2.0)
        pid = find_part(siege.pid, part)
        os.kill(pid, signal.SIGSTOP)
        began, noticed, served = time.monotonic(), None, None
        try:
            while time.monotonic() < began + _PATIENCE_SECONDS and None in (noticed, served):
                seen, now = siege.see(0.05), time.monotonic() - began
                if noticed is None and (_ended(pid) or not siege.ready()):
                    noticed = now
                if served is None and not seen.fresh.failed:
                    served = now
                time.sleep(0.2)
        finally:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
    return Hang(part, noticed, served)


def find_part(supervisor: int, part: str) -> int:
    """Return the process of a part.

    Raises:
        LookupError: There is none.
    """
    for pid in family(supervisor):
        with suppress(OSError):
            if PARTS[part] in Path(f"/proc/{pid}/cmdline").read_text():
                return pid
    raise LookupError(f"there is no {part}")


def _ended(pid: int) -> bool:
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True

"""`lossd score` as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

_CODE = """
from lossd.__main__ import main
from lossd_client.cli.inputs import blocks

blocks.BLOCK_BYTES = 1500
main()
"""


def started(base_url: str, *args: object, terminal: int | None = None) -> subprocess.Popen[bytes]:
    """Starts it with blocks so small that every input has many."""
    return subprocess.Popen(
        [sys.executable, "-c", _CODE, "score", *map(str, args), "--url", base_url],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if terminal is None else terminal,
        env={**os.environ, "TERM": "xterm"},
    )

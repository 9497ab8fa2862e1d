"""The command: ``python -m lossd``, and the console script `lossd`."""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import Final, NoReturn

_INTERRUPTED: Final = 128 + signal.SIGINT


def main() -> None:
    """Runs the command; Ctrl-C ends it without a traceback, while its parts are being imported too."""
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN:  # as background jobs of scripts have it
        signal.signal(signal.SIGINT, _leave)
    from lossd.cli import main as command

    signal.signal(signal.SIGINT, before)
    try:
        command()
    except KeyboardInterrupt:
        os._exit(_INTERRUPTED)


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    os._exit(_INTERRUPTED)


if __name__ == "__main__":
    main()

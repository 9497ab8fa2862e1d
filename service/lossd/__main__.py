"""The command `lossd`, also as `python -m lossd`: the client's commands and the server's."""

from __future__ import annotations

import gc
import os
import signal
import sys
from types import FrameType
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from lossd_client.cli import Here

_INTERRUPTED: Final = 128 + signal.SIGINT


def main() -> None:
    """Run the command; Ctrl-C ends it without a traceback, while its parts are being imported too."""
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN:  # as background jobs of scripts have it
        signal.signal(signal.SIGINT, _leave)
    gc.disable()  # what is imported stays, and need not be looked through
    from lossd.cli import add_commands
    from lossd_client.cli import create_app, run

    app = create_app(add_commands, here=_here, named=next(iter(sys.argv[1:]), None))
    gc.freeze()
    gc.enable()
    signal.signal(signal.SIGINT, before)
    try:
        run(app)
    except KeyboardInterrupt:
        os._exit(_INTERRUPTED)


def _here() -> Here:
    """Return what --engine needs of the server's package."""
    from lossd.in_process import answer
    from lossd.machine import available_cores
    from lossd_client.cli import Here

    return Here(answer, available_cores())


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    os._exit(_INTERRUPTED)


if __name__ == "__main__":
    main()

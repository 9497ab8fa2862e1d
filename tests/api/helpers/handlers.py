"""The handler of the helper in test_process: the first word of a request says what to do."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from lossd.api.helpers.process import serve


def handle(request: bytes) -> bytes:
    began = time.process_time()
    word, _, rest = request.partition(b" ")
    match word:
        case b"print":
            print("this is not an answer")  # noqa: T201
            return b"printed"
        case b"nice":
            return b"%d" % os.nice(0)
        case b"raise":
            raise RuntimeError(rest)
        case b"die":
            os.kill(os.getpid(), signal.SIGKILL)
        case b"die-once":
            if not Path(os.fsdecode(rest)).exists():
                Path(os.fsdecode(rest)).touch()
                os.kill(os.getpid(), signal.SIGKILL)
        case b"hang":
            time.sleep(600)
        case b"compute":  # for so many seconds of the processor's time
            while time.process_time() < began + float(rest):
                pass
        case b"read":  # waits until somebody writes
            return Path(os.fsdecode(rest)).read_bytes()
        case b"descriptor":
            return os.pread(int(rest), 100, 0)
    return b"%d %s" % (os.getpid(), rest)


if __name__ == "__main__":
    serve(handle)

"""Reads the file that an offline run of wandb leaves, with the package's own messages.

The file is a log as LevelDB writes it: blocks of 32 KiB, with pieces of records in each (doc/log_format.md).
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wandb.proto.wandb_internal_pb2 import Record

BLOCK, HEAD = 32768, 7
FULL, LAST = 1, 4


def finished(run: Path) -> list[Record]:
    """Return the records of a run's folder, once the last one is there: `finish` does not wait for it."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = [record for file in run.glob("*.wandb") for record in records(file.read_bytes())]
        if found and found[-1].WhichOneof("record_type") == "exit":
            return found
        time.sleep(0.02)
    raise TimeoutError(f"the run in {run} does not end")


def records(data: bytes) -> Iterator[Record]:
    """Yield the records of a file in order; the last ones may not be there yet."""
    from wandb.proto.wandb_internal_pb2 import Record

    assert data.startswith(b":W&B"[: len(data)])
    place, held = HEAD, b""
    while place + HEAD <= len(data):
        if BLOCK - place % BLOCK < HEAD:  # too short for a head: padding
            place += BLOCK - place % BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        if place + HEAD + length > len(data):
            return
        held += data[place + HEAD : place + HEAD + length]
        place += HEAD + length
        if kind in (FULL, LAST):
            record = Record()
            record.ParseFromString(held)
            held = b""
            yield record

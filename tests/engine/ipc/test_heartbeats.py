from __future__ import annotations

import os

from lossd.engine.ipc.heartbeats import BLANK, Board, Row, nbytes
from lossd.engine.ipc.memory import create_memory


def test_each_worker_has_a_row() -> None:
    fd = create_memory(nbytes(3))
    writer, reader = Board(fd, 3), Board(fd, 3)
    os.close(fd)
    assert [reader.read(worker) for worker in range(3)] == [BLANK] * 3
    writer.write(1, Row(12.5, 2**63, (63, 2**48 - 1)))
    writer.write(2, Row(1.0, 2, (0, 1)))
    assert [reader.read(worker) for worker in range(3)] == [
        BLANK,
        Row(12.5, 2**63, (63, 2**48 - 1)),
        Row(1.0, 2, (0, 1)),
    ]
    writer.write(1, Row(13.0, 7, None))
    assert reader.read(1) == Row(13.0, 7, None)

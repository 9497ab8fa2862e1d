from __future__ import annotations

import os

from lossd.engine.arena import create_memory
from lossd.engine.board import BLANK, MOST_RUNNING, Board, Row, nbytes


def test_each_worker_has_a_row() -> None:
    fd = create_memory(nbytes(3))
    writer, reader = Board(fd, 3), Board(fd, 3)
    os.close(fd)
    assert [tuple(reader.read(worker)) for worker in range(3)] == [(0.0, 0, [])] * 3
    running = [(63, 2**48 - 1), (0, 1), *((5, i) for i in range(MOST_RUNNING - 2))]
    writer.write(1, Row(12.5, 2**63, running))
    writer.write(2, Row(1.0, 2, [(1, 2)]))
    assert reader.read(1) == Row(12.5, 2**63, running)
    writer.write(1, Row(13.0, 7, ()))
    assert [tuple(reader.read(worker)) for worker in range(3)] == [
        (0.0, 0, []),
        (13.0, 7, []),
        (1.0, 2, [(1, 2)]),
    ]
    writer.write(2, BLANK)
    assert reader.read(2) == Row(0.0, 0, [])

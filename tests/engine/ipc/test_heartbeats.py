from __future__ import annotations

import os

from lossd.engine.ipc.heartbeats import NO_HEARTBEAT, Heartbeat, Heartbeats, heartbeats_bytes
from lossd.engine.ipc.memory import create_memory


def test_each_worker_has_a_row() -> None:
    fd = create_memory(heartbeats_bytes(3))
    writer, reader = Heartbeats(fd, 3), Heartbeats(fd, 3)
    os.close(fd)
    assert [reader.read(worker) for worker in range(3)] == [NO_HEARTBEAT] * 3
    writer.write(1, Heartbeat(12.5, 2**63, (63, 2**48 - 1)))
    writer.write(2, Heartbeat(1.0, 2, (0, 1)))
    assert [reader.read(worker) for worker in range(3)] == [
        NO_HEARTBEAT,
        Heartbeat(12.5, 2**63, (63, 2**48 - 1)),
        Heartbeat(1.0, 2, (0, 1)),
    ]
    writer.write(1, Heartbeat(13.0, 7, None))
    assert reader.read(1) == Heartbeat(13.0, 7, None)

from __future__ import annotations

import pytest

from lossd.engine.ipc.messages import MAX_FRAME, socket_pair
from lossd.engine.ipc.outbox import Outbox


def test_what_has_no_room_is_kept_and_sent_in_order() -> None:
    ours, theirs = socket_pair()
    with ours, theirs:
        outbox = Outbox(ours)
        sent: list[bytes] = []
        while True:
            frame = b"%05d" % len(sent) + bytes(MAX_FRAME // 8)
            sent.append(frame)
            if not outbox.send(frame):
                break
        sent += [b"one", b"two"]
        assert not outbox.send(b"one")
        assert not outbox.send(b"two")
        theirs.setblocking(False)
        received: list[bytes] = []
        while len(received) < len(sent):
            try:
                received.append(theirs.recv(MAX_FRAME))
            except BlockingIOError:
                outbox.flush()
        assert received == sent
        assert outbox.flush()
        with pytest.raises(BlockingIOError):
            theirs.recv(1)


def test_who_is_gone_gets_nothing() -> None:
    ours, theirs = socket_pair()
    with ours:
        outbox = Outbox(ours)
        theirs.close()
        assert outbox.send(b"anyone?")
        assert outbox.send(b"anyone?")
        assert outbox.flush()

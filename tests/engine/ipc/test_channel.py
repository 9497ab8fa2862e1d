from __future__ import annotations

import pytest

from lossd.engine.ipc.channel import MAX_MESSAGE_BYTES, Sender, socket_pair


def test_messages_without_room_are_kept_and_sent_in_order() -> None:
    ours, theirs = socket_pair()
    with ours, theirs:
        sender = Sender(ours)
        sent: list[bytes] = []
        while True:
            message = b"%05d" % len(sent) + bytes(MAX_MESSAGE_BYTES // 8)
            sent.append(message)
            if not sender.send(message):
                break
        sent += [b"one", b"two"]
        assert not sender.send(b"one")
        assert not sender.send(b"two")
        theirs.setblocking(False)
        received: list[bytes] = []
        while len(received) < len(sent):
            try:
                received.append(theirs.recv(MAX_MESSAGE_BYTES))
            except BlockingIOError:
                sender.flush()
        assert received == sent
        assert sender.flush()
        with pytest.raises(BlockingIOError):
            theirs.recv(1)


def test_messages_to_a_closed_peer_are_dropped() -> None:
    ours, theirs = socket_pair()
    with ours:
        sender = Sender(ours)
        theirs.close()
        assert sender.send(b"anyone?")
        assert sender.send(b"anyone?")
        assert sender.flush()

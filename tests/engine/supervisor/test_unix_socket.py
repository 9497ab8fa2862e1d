"""The file of a Unix socket: when it is made, replaced, refused and removed."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lossd.engine.supervisor.unix_socket import UnixSocketError, listen_at, take_over


@pytest.fixture
def path() -> Iterator[Path]:
    """A path in a folder of its own, short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="lossd-", dir="/tmp") as folder:
        yield Path(folder) / "l.sock"


def connects(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as caller:
        return caller.connect_ex(str(path)) == 0


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_user_and_group_may_connect_whatever_the_umask(path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        unix = listen_at(path, 8)
    finally:
        os.umask(before)
    with unix.socket:
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert connects(path)
    unix.remove()
    assert not path.exists()


def test_what_a_dead_server_left_is_replaced(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    assert not connects(path)
    unix = listen_at(path, 8)
    with unix.socket:
        assert connects(path)
    unix.remove()


def test_a_live_servers_stays(path: Path) -> None:
    unix = listen_at(path, 8)
    with unix.socket:
        with pytest.raises(UnixSocketError, match="another program listens there; end it"):
            listen_at(path, 8)
        assert connects(path)
    unix.remove()


@pytest.mark.parametrize("kind", [socket.SOCK_SEQPACKET, socket.SOCK_DGRAM])
def test_another_kind_of_socket_stays(path: Path, kind: int) -> None:
    with socket.socket(socket.AF_UNIX, kind) as other:
        other.bind(str(path))
        if kind != socket.SOCK_DGRAM:
            other.listen()
        with pytest.raises(UnixSocketError, match="another program listens there"):
            listen_at(path, 8)
        assert path.exists()


def test_other_files_stay(path: Path) -> None:
    path.write_text("kept")
    link = path.with_name("link")
    link.symlink_to(path)
    for each in (path, link, path.parent):
        with pytest.raises(UnixSocketError, match="something else than a socket is there; remove it"):
            listen_at(each, 8)
    assert path.read_text() == "kept"
    assert link.is_symlink()


@pytest.mark.parametrize(
    ("name", "what"), [("nowhere/l.sock", "there is no folder"), ("n" * 108, "name one of at most 107 bytes")]
)
def test_paths_that_cannot_be(path: Path, name: str, what: str) -> None:
    with pytest.raises(UnixSocketError, match=what):
        listen_at(path.with_name(name) if "/" not in name else path.parent / name, 8)


def test_the_file_of_a_server_that_came_later_stays(path: Path) -> None:
    first = listen_at(path, 8)
    first.socket.close()
    path.rename(path.with_name("old"))
    second = listen_at(path, 8)
    with second.socket:
        first.remove()
        assert connects(path)
    second.remove()
    second.remove()  # nothing is left
    assert not path.exists()


def test_a_socket_is_taken_over_only_at_the_same_path(path: Path) -> None:
    unix = listen_at(path, 8)
    with unix.socket:
        for other in (None, path.with_name("other")):
            with pytest.raises(UnixSocketError, match="make them agree, or stop that server first"):
                take_over(other, unix.socket, "/run/handover")
        taken = take_over(path, unix.socket, "/run/handover")
        assert taken.socket is unix.socket
    taken.remove()
    assert not path.exists()

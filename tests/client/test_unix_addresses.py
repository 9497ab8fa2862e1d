"""Addresses of Unix sockets; tests/faults/test_unix_socket.py has a server at one."""

import pickle
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from client.conftest import Ask
from lossd_client import AsyncLossClient, ConnectionFailed, LossClient, Retry
from lossd_client._http.addresses import is_loopback, server_address, socket_path, without_password

QUICK = Retry(first_wait=0.001, longest_wait=0.002, first_refusal=3, first_contact=2)


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="lossd-", dir="/tmp") as path:
        yield Path(path)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("unix:///run/lossd.sock", "/run/lossd.sock"),
        (" unix:///a%20b/%23.sock ", "/a b/#.sock"),
        ("UNIX:///run/x@y:z", "/run/x@y:z"),
        ("http://host:8000", None),
    ],
)
def test_paths(url: str, path: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    found = server_address(url)
    assert socket_path(found) == path
    assert without_password(found) == found
    assert is_loopback(found) == (path is not None)
    monkeypatch.setenv("LOSSD_BASE_URL", url)
    assert server_address(None) == found


@pytest.mark.parametrize(
    "url",
    ["unix:/run/x", "unix://run/x", "unix:///", "unix://", "unix:", "unix:///a/", "unix:///a%00b", "unix:x"],
)
def test_what_is_none(url: str) -> None:
    for kind in (LossClient, AsyncLossClient):
        with pytest.raises(ValueError, match=r"must be like unix:///run/lossd\.sock, with three slashes"):
            kind(url)


def test_a_path_has_at_most_107_bytes() -> None:
    assert server_address("unix:///" + "n" * 106)
    with pytest.raises(ValueError, match="at most 107 bytes"):
        server_address("unix:///" + "ä" * 54)


def test_a_client_travels() -> None:
    with LossClient("unix:///run/lossd.sock") as client, pickle.loads(pickle.dumps(client)) as other:
        assert repr(other) == "LossClient('unix:///run/lossd.sock')"


def test_a_socket_that_is_not_there_may_come(ask: Ask, folder: Path) -> None:
    with pytest.raises(ConnectionFailed, match="No such file or directory") as caught:
        ask(f"unix://{folder}/none", "info", options={"retry": QUICK})
    assert caught.value.__notes__ == ["This was attempt 3."]


def test_nor_one_to_which_nobody_listens(ask: Ask, folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(folder / "dead"))
    with pytest.raises(ConnectionFailed, match=r"[Rr]efused") as caught:
        ask(f"unix://{folder}/dead", "info", options={"retry": QUICK})
    assert caught.value.__notes__ == ["This was attempt 3."]

"""The bar for those who want one."""

import io
import sys

import pytest

from lossd_client import LossClient, Progress, progress_bar
from lossd_client.testing import FakeTransport


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _score(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    rows = [0.0] * 40
    with (
        progress_bar("Weighing") as show,
        LossClient(transport=FakeTransport, request_bytes=160, progress=show) as client,
    ):
        assert client.bce(rows, rows).count == 40
        show(Progress(5, None, 5, 1))  # of an endless stream
    return stream.getvalue()


def test_on_a_terminal_it_shows_how_many_rows_are_done(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = _score(Terminal(), monkeypatch)
    assert "Weighing" in shown
    assert "rows" in shown


def test_in_a_pipe_it_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _score(io.StringIO(), monkeypatch) == ""


def test_a_callback_that_fails_ends_the_call() -> None:
    def fail(progress: Progress) -> None:
        raise RuntimeError("enough")

    with LossClient(transport=FakeTransport, progress=fail, request_bytes=16) as client:
        with pytest.raises(RuntimeError, match="enough"):
            client.bce([0.0] * 9, [0] * 9)
        with pytest.raises(RuntimeError, match="enough"):
            client.bce([0.0], [0])

"""A server that tests end and start again at the same address."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from live_server import LiveServer, live_server
from lossd_client.local import free_port


class Outage:
    """A server that is away at first."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self._running: AbstractContextManager[LiveServer] | None = None
        self.url = f"http://127.0.0.1:{self._port}"

    def end(self) -> None:
        """Start the server."""
        self._running = live_server(self._folder, port=self._port)
        self._running.__enter__()

    def begin(self) -> None:
        """End the server."""
        if self._running is not None:
            running, self._running = self._running, None
            running.__exit__(None, None, None)


@contextmanager
def outage(folder: Path) -> Iterator[Outage]:
    """Yield an outage; no server is left behind."""
    made = Outage(folder)
    try:
        yield made
    finally:
        made.begin()

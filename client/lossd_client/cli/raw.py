"""Single requests, sent as the client sends them, with their answers as they come."""

from collections.abc import Iterator
from contextlib import contextmanager

from lossd_client import Transport


@contextmanager
def raw_transport(base_url: str, *, max_connections: int = 1) -> Iterator[Transport]:
    """Open a transport with the client's proxies and certificates."""
    from lossd_client import HttpxTransport  # slow to import

    transport = HttpxTransport.to(base_url, max_connections)
    try:
        yield transport
    finally:
        transport.close()

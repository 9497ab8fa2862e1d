"""Single requests as the client would send them, with their answers as they come."""

from collections.abc import Iterator
from contextlib import contextmanager

from lossd_client import LossClient, Transport
from lossd_client._options import Settings


@contextmanager
def raw_transport(settings: Settings) -> Iterator[Transport]:
    """Opens what the client sends by: the same proxies, the same certificates."""
    transport = LossClient._open_transport(settings)
    try:
        yield transport
    finally:
        transport.close()

"""A stand-in for the server, for tests of code that uses the client."""

from lossd_client.testing._fake import AsyncFakeTransport, FakeTransport

__all__ = ["AsyncFakeTransport", "FakeTransport"]
